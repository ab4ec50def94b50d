// SPDX-License-Identifier: Apache-2.0
// The k nearest of the candidates seen so far, ties by the smaller id.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "search/greedy.h"

namespace bigrain::search {

class NearestK {
 public:
  void reset(size_t k) {
    k_ = k;
    heap_.clear();
  }

  // The k-th distance; +infinity while there are fewer.
  float worst() const {
    return heap_.size() < k_ ? std::numeric_limits<float>::infinity() : heap_.front().score;
  }

  void insert(const ScoredId& candidate) {
    if (heap_.size() == k_) {
      if (!is_nearer(candidate, heap_.front())) return;
      std::pop_heap(heap_.begin(), heap_.end(), is_nearer);
      heap_.back() = candidate;
    } else {
      heap_.push_back(candidate);
    }
    std::push_heap(heap_.begin(), heap_.end(), is_nearer);
  }

  // Nearest first. Ends the collection: only reset() may follow.
  std::span<const ScoredId> sorted() {
    std::sort_heap(heap_.begin(), heap_.end(), is_nearer);
    return heap_;
  }

 private:
  static bool is_nearer(const ScoredId& a, const ScoredId& b) {
    return a.score != b.score ? a.score < b.score : a.id < b.id;
  }

  size_t k_ = 0;
  std::vector<ScoredId> heap_;  // the farthest in front
};

}  // namespace bigrain::search
