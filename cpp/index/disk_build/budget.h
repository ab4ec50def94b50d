// SPDX-License-Identifier: Apache-2.0
// Where the memory of a build goes: every large array of a step is sized by one of these.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "bigrain/build_to.h"
#include "format/parts.h"

namespace bigrain::disk_build {

// Shards that hold each point, so that neighbours on both sides of a border meet (bench/LOG.md,
// "out-of-core build").
inline constexpr size_t kCopies = 3;
// S * S counters of 4 bytes, and a descriptor each while lists are merged.
inline constexpr size_t kMostShards = 512;

class Budget {
 public:
  Budget(uint64_t memory, const VectorFile& vectors);

  // Buffers of streams and bucket files.
  size_t buffers() const { return std::min(memory_ / 8, kMostBuffers); }
  // Rows read at a time, with their codes.
  size_t block_rows() const;
  // Rows that mean, projection and shards are learnt from.
  size_t sample_rows() const;
  // Points whose candidates can be found at a time.
  size_t shard_points(const BuildParams& params, uint32_t degree, size_t stride) const;
  // Bytes for what is sorted in memory: edges of a shard, rows of a bucket.
  size_t sorting() const { return std::min(memory_ / 4, kMostSorting); }

 private:
  // Larger ones do not make anything faster.
  static constexpr uint64_t kMostBuffers = uint64_t{256} << 20, kMostSorting = uint64_t{4} << 30;

  uint64_t memory_;
  VectorFile vectors_;
};

// Bytes per point while a shard's candidates are found.
size_t shard_point_bytes(const BuildParams& params, uint32_t degree, size_t stride);
// How far candidates are sought within one of kCopies shards.
uint32_t shard_width(const BuildParams& params);

// Bytes of disk that the work folder takes at most, and with the index beside it.
uint64_t work_bytes(const VectorFile& vectors, uint32_t degree, size_t stride, size_t shards);

}  // namespace bigrain::disk_build
