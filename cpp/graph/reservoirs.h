// SPDX-License-Identifier: Apache-2.0
// The nearest candidates of every point, at most so many each, from any number of threads.
//
// What a point keeps is the set of its nearest distinct candidates, whatever the order in which
// they come: a distance of two points has the same bits from both sides and in every leaf
// (simd/kernels.h), so a candidate met twice has one key. A flag per point keeps two threads apart;
// nothing else depends on which comes first.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "search/greedy.h"
#include "util/buffer.h"

namespace bigrain::graph {

class Reservoirs {
 public:
  Reservoirs(size_t count, size_t capacity);

  // Any thread.
  void offer(uint32_t point, float distance, uint32_t candidate);
  // Appends them, nearest first. Only once all offers are made.
  void read(uint32_t point, std::vector<search::ScoredId>& out) const;

 private:
  size_t capacity_;
  Buffer keys_;  // ordered distance << 32 | id, sorted
  // Keys at or above it are not taken; all bits set while there is room. Falls only, so that a
  // glance without the flag never turns down what belongs here.
  std::unique_ptr<std::atomic<uint64_t>[]> limits_;
  std::unique_ptr<std::atomic_flag[]> busy_;
  std::vector<uint16_t> counts_;
};

}  // namespace bigrain::graph
