// SPDX-License-Identifier: Apache-2.0
// Which shards a point belongs to: those whose centres are nearest to it in the space of the codes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "graph/prune.h"
#include "quant/code_space.h"
#include "simd/kernels.h"
#include "util/buffer.h"
#include "util/monitor.h"

namespace bigrain::disk_build {

// Choices that a point has, for the case that shards are full.
inline constexpr size_t kChoices = 8;

class Router {
 public:
  // Code records of the centres, with biases (as under l2, whatever the metric).
  Router(Buffer centres, size_t stride, simd::ScoreCodesFn score_codes);

  size_t count() const { return numbers_.size(); }
  const Buffer& centres() const { return centres_; }

  struct Scratch {
    Buffer query;
    std::vector<float> scores;
  };
  // The nearest min(kChoices, count()) of them, in order; ties by number. Returns how far the first
  // is: its squared distance, less |x|^2. Any thread.
  float route(const std::byte* record, Scratch& scratch, uint16_t* choices) const;

 private:
  Buffer centres_;
  size_t stride_;
  simd::ScoreCodesFn score_codes_;
  std::vector<uint32_t> numbers_;
};

struct RouterParams {
  uint64_t points;      // of the whole set
  size_t shard_points;  // most that a shard can take
  uint64_t seed;
  uint32_t threads;
};

// Centres for so many shards that most of them are filled to seven tenths: k-means on the mapped
// sample, and centres whose shards would overflow are split in two. One shard where it takes all.
Router make_router(const std::vector<float>& mapped, size_t dim, const RouterParams& params,
                   const simd::Kernels& kernels, Monitor& monitor);

}  // namespace bigrain::disk_build
