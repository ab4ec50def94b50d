// SPDX-License-Identifier: Apache-2.0
#include "quant/neighbour_blocks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "bigrain/error.h"
#include "quant/scalar8.h"
#include "util/thread_pool.h"

namespace bigrain::quant {

namespace {

constexpr size_t kLine = 64, kSubBytes = 16;
constexpr size_t kFactorBytes = 2 * kBlockNeighbours * sizeof(float);
// sqrt(1 - 2/pi), see the head of neighbour_blocks.h.
constexpr float kSpread = 0.60281028f;
// Compilers make vectors of this look-up, not of a shift by j (SSE2 has none by lanes).
constexpr auto kBits = [] {
  std::array<int32_t, kBlockNeighbours> bits{};
  for (size_t j = 0; j < kBlockNeighbours; ++j) bits[j] = static_cast<int32_t>(1u << j);
  return bits;
}();
constexpr size_t kLanes = 8;  // independent sums: the order, and so the bits, are fixed
// Edges packed by one task: some milliseconds, so that a poll is never far.
constexpr size_t kGrainEdges = size_t{1} << 13;

size_t subs_of(size_t dim) { return (dim + kSubDims - 1) / kSubDims; }
size_t part_bytes_of(size_t dim) {
  return (kFactorBytes + subs_of(dim) * kSubBytes + kLine - 1) / kLine * kLine;
}
size_t parts_of(size_t degree) { return (degree + kBlockNeighbours - 1) / kBlockNeighbours; }

// Packs the neighbours of one vertex after the other.
class Packer {
 public:
  explicit Packer(const IndexParts& parts)
      : parts_(parts),
        dim_(parts.meta.code_dim),
        stride_(code_stride(parts.meta.code_dim)),
        centred_(parts.meta.metric != Metric::ip),
        centre_((dim_ + kLanes - 1) / kLanes * kLanes),
        residual_(centre_.size()) {}

  void pack(uint32_t vertex, std::byte* block) {
    decode(vertex, centre_);
    const size_t degree = parts_.meta.degree;
    const uint32_t* row = parts_.graph.as<uint32_t>().data() + vertex * degree;
    const size_t places = parts_of(degree) * kBlockNeighbours;
    bool ended = false;
    for (size_t i = 0; i < places; ++i) {
      std::byte* part = block + i / kBlockNeighbours * part_bytes_of(dim_);
      float* factors = reinterpret_cast<float*>(part) + i % kBlockNeighbours;
      ended = ended || i >= degree || row[i] == vertex;
      if (ended) {
        factors[0] = std::numeric_limits<float>::infinity();
        continue;
      }
      check_id(vertex, row[i]);
      pack_neighbour(row[i], i % kBlockNeighbours, part, factors);
    }
  }

 private:
  void check_id(uint32_t vertex, uint32_t id) const {
    if (id < parts_.meta.count) return;
    throw Error::corrupt("section graph: row " + std::to_string(vertex) + " names vertex " +
                         std::to_string(id) + "; expected ids below " +
                         std::to_string(parts_.meta.count) +
                         "; the index is damaged, build or copy it again");
  }

  void decode(uint32_t id, std::vector<float>& out) const {
    const std::byte* record = parts_.codes.data() + id * stride_;
    const float scale = constants_of(record, stride_).scale;
    const auto* codes = reinterpret_cast<const int8_t*>(record);
    for (size_t j = 0; j < dim_; ++j) out[j] = scale * static_cast<float>(codes[j]);
  }

  void pack_neighbour(uint32_t id, size_t place, std::byte* part, float* factors) {
    decode(id, residual_);
    float squares[kLanes] = {}, magnitudes[kLanes] = {}, along[kLanes] = {};
    for (size_t j = 0; j < residual_.size(); j += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) {
        const float r = residual_[j + lane] -= centre_[j + lane];
        squares[lane] += r * r;
        magnitudes[lane] += std::fabs(r);
        along[lane] += r >= 0 ? centre_[j + lane] : -centre_[j + lane];
      }
    }
    float square = 0, magnitude = 0, dot = 0;
    for (size_t lane = 0; lane < kLanes; ++lane) {
      square += squares[lane];
      magnitude += magnitudes[lane];
      dot += along[lane];
    }
    const float factor = magnitude > 0 ? square / magnitude : 0.0f;
    factors[0] = centred_ ? square + 2 * factor * dot : 0.0f;
    factors[kBlockNeighbours] = 2 * factor;
    pack_signs(place, reinterpret_cast<uint8_t*>(part + kFactorBytes));
    std::fill(residual_.begin(), residual_.end(), 0.0f);
  }

  void pack_signs(size_t place, uint8_t* codes) const {
    const size_t shift = place < kSubBytes ? 0 : 4;
    for (size_t j = 0; j < dim_; ++j) {
      const size_t bit = residual_[j] >= 0 ? 1 : 0;
      uint8_t& code = codes[j / kSubDims * kSubBytes + place % kSubBytes];
      code = static_cast<uint8_t>(code | bit << (j % kSubDims + shift));
    }
  }

  const IndexParts& parts_;
  size_t dim_, stride_;
  bool centred_;
  std::vector<float> centre_, residual_;  // zeros past dim_
};

}  // namespace

NeighbourBlocks::NeighbourBlocks(const IndexParts& parts, const simd::Kernels& kernels)
    : data_(parts.blocks.data()),
      parts_per_vertex_(parts_of(parts.meta.degree)),
      part_bytes_(part_bytes_of(parts.meta.code_dim)),
      subs_(subs_of(parts.meta.code_dim)),
      fast_scan_(kernels.fast_scan) {}

uint32_t NeighbourBlocks::near(const SignQuery& query, uint32_t vertex, size_t part, float score,
                               float limit) const {
  const std::byte* block = data_ + vertex * vertex_bytes() + part * part_bytes_;
  const float* const offsets = reinterpret_cast<const float*>(block);
  const float* const factors = offsets + kBlockNeighbours;
  uint32_t sums[kBlockNeighbours];
  fast_scan_(query.table.data(), reinterpret_cast<const uint8_t*>(block + kFactorBytes), subs_,
             sums);
  const float squared = query.centred ? score + query.squared_norm : query.squared_norm;
  const float slack = kGateErrors * kSpread * std::sqrt(std::max(squared, 0.0f));
  const float base = query.least + slack, most = limit - score;
  int32_t mask = 0;
  for (size_t j = 0; j < kBlockNeighbours; ++j) {
    const float dot = query.step * static_cast<float>(static_cast<int32_t>(sums[j])) + base;
    mask |= -static_cast<int32_t>(offsets[j] - factors[j] * dot < most) & kBits[j];
  }
  return static_cast<uint32_t>(mask);
}

void make_blocks(IndexParts& parts, uint32_t threads, Monitor& monitor) {
  const size_t bytes = parts_of(parts.meta.degree) * part_bytes_of(parts.meta.code_dim);
  Buffer blocks(parts.meta.count * bytes);
  const size_t grain = std::max<size_t>(1, kGrainEdges / std::max(parts.meta.degree, 1u));
  monitor.start(parts.meta.count);
  parallel_for(parts.meta.count, grain, threads, monitor, [&](size_t begin, size_t end, uint32_t) {
    Packer packer(parts);
    for (size_t i = begin; i < end; ++i) {
      packer.pack(static_cast<uint32_t>(i), blocks.data() + i * bytes);
    }
    monitor.advance(end - begin);
  });
  parts.blocks = std::move(blocks);
}

}  // namespace bigrain::quant
