// SPDX-License-Identifier: Apache-2.0
#include "index/disk_build/budget.h"

#include "index/disk_build/candidates.h"

#include <algorithm>

namespace bigrain::disk_build {

namespace {

// Blocks of 8 MiB are read at full speed and leave polls near.
constexpr size_t kMostBlockBytes = size_t{8} << 20;
// A sample of 64 points per shard at the most shards; more did not move the centres' loads.
constexpr size_t kMostSample = 65'536, kLeastSample = 1'024;
// The sample is held as it is, as floats in code space and twice more within k-means.
constexpr size_t kSampleShare = 6;
// Beside buffers: what the allocator does not give back at once, and the tables of two shards.
constexpr double kShardShare = 0.9;
// Bytes of a shard's points beside what graph/partitioned.h says: tile rows, members, tables.
constexpr size_t kOtherBytes = 60;
// Each parent pointer of the repair, and a byte of flags.
constexpr uint64_t kBytesPerPoint = 8;
constexpr uint64_t kLeastBuildMemory = uint64_t{1} << 20;

}  // namespace

Budget::Budget(uint64_t memory, const VectorFile& vectors) : memory_(memory), vectors_(vectors) {}

size_t Budget::block_rows() const {
  const size_t row = vectors_.dim * item_size(vectors_.dtype) + vectors_.row_stride +
                     code_stride(vectors_.dim) + sizeof(double) * vectors_.dim / 64;
  return std::max<size_t>(std::min<uint64_t>(memory_ / 8, kMostBlockBytes) / row, 1);
}

size_t Budget::sample_rows() const {
  const size_t row = vectors_.dim * std::max<size_t>(item_size(vectors_.dtype), 4);
  const size_t fits = std::clamp<size_t>(memory_ / kSampleShare / row, kLeastSample, kMostSample);
  return std::min<uint64_t>(fits, vectors_.rows);
}

size_t Budget::shard_points(const BuildParams& params, uint32_t degree, size_t stride) const {
  const double bytes = static_cast<double>(memory_ - kBytesPerPoint * vectors_.rows) * kShardShare;
  return static_cast<size_t>(bytes /
                             static_cast<double>(shard_point_bytes(params, degree, stride)));
}

size_t shard_point_bytes(const BuildParams& params, uint32_t degree, size_t stride) {
  // graph/partitioned.h: 12 R for near ones, 2 R for far ones, the rest for tables, and 10 for each
  // leaf that a point lies in. Rows of a build by searches take less.
  constexpr size_t kPerEdge = 16, kPerLeaf = 10, kWidthPerLeaf = 4;
  return kPerEdge * degree + kPerLeaf * (shard_width(params) / kWidthPerLeaf) + stride +
         kOtherBytes;
}

uint32_t shard_width(const BuildParams& params) {
  // bench/LOG.md, "out-of-core build".
  return std::max(params.build_width * (getenv("SW") ? atoi(getenv("SW")) : 50) / 100, 1u);
}

uint64_t work_bytes(const VectorFile& vectors, uint32_t degree, size_t stride, size_t shards) {
  const uint64_t row = uint64_t{degree} * sizeof(uint32_t), codes = stride + sizeof(uint16_t);
  if (shards == 1) return vectors.rows * (codes + row);
  const uint64_t members = kCopies * sizeof(Member);
  const uint64_t lists = kCopies * (sizeof(ListHeader) + row + row / 2);
  const uint64_t forward = row, edges = 2 * row, buckets = row + sizeof(uint32_t);
  // Lists are gone when edges are followed back, these when rows are put into order.
  return vectors.rows * (codes + std::max({members + lists + forward + edges,
                                           forward + edges + buckets, buckets + row}));
}

}  // namespace bigrain::disk_build

namespace bigrain {

uint64_t least_build_memory(const VectorFile& vectors, const BuildParams& params) {
  using namespace disk_build;
  const uint32_t degree = params.degree != 0 ? params.degree : kDefaultDegreeShort;
  const size_t stride = code_stride(params.code_dim != 0 ? params.code_dim : vectors.dim);
  const size_t row = vectors.dim * std::max<size_t>(item_size(vectors.dtype), 4);
  // Shards are filled to a half, lest their centres' loads differ.
  const uint64_t shard = 2 * kCopies * vectors.rows / kMostShards + 1;
  const uint64_t shards = static_cast<uint64_t>(
      static_cast<double>(shard * shard_point_bytes(params, degree, stride)) / kShardShare);
  const uint64_t sample = kSampleShare * row * std::min<uint64_t>(kLeastSample, vectors.rows);
  return std::max(
      {kLeastBuildMemory, shards, sample, kBytesPerPoint * vectors.rows + kLeastBuildMemory});
}

}  // namespace bigrain
