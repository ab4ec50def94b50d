// SPDX-License-Identifier: Apache-2.0
// The candidates of one search: a sorted array with a cursor at the first vertex not yet expanded.
//
// As in Glass and SVS, one array serves as queue and as result: a binary search and a memmove per
// accepted candidate beat two heaps at the widths in use (up to a few hundred). A key is one
// integer, [score as an order-preserving uint32 | id | expanded], so that a comparison is one
// instruction and ties fall by id on every machine. The split of window (what must be expanded) and
// capacity (what is kept for re-ranking) is SVS's.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace bigrain::search {

class Pool {
 public:
  // Empties the pool. 1 <= window <= capacity.
  void reset(uint32_t window, uint32_t capacity) {
    if (keys_.size() < capacity + 1) keys_.resize(capacity + 1);
    window_ = window;
    capacity_ = capacity;
    size_ = cursor_ = 0;
    worst_ = limit_ = std::numeric_limits<float>::infinity();
  }

  // Scores at or above this are not taken. NaN never is.
  float worst() const { return worst_; }

  // Inserts unless the pool is full of better ones or holds the same (score, id) already.
  void insert(float score, uint32_t id) {
    if (!(score < worst_)) return;
    const uint64_t key = make_key(score, id);
    uint64_t* const begin = keys_.data();
    uint64_t* const place = lower_bound(begin, size_, key);
    // An equal entry differs at most in the expanded flag, the lowest bit.
    if (place != begin + size_ && (*place | 1) == (key | 1)) return;
    const size_t position = static_cast<size_t>(place - begin);
    std::memmove(place + 1, place, (size_ - position) * sizeof(uint64_t));
    *place = key;
    if (size_ < capacity_) ++size_;
    if (size_ == capacity_) worst_ = score_of(begin[size_ - 1]);
    cursor_ = std::min(cursor_, position);
  }

  // From now on nothing is next that scores above `most`, nor, but for the best `kept`, in the
  // pool.
  void limit(float most, size_t kept) {
    limit_ = std::min(limit_, most);
    if (size_ < kept) return;
    const float worst = kept == 0 ? limit_ : std::max(limit_, score(kept - 1));
    if (!(worst < worst_)) return;
    worst_ = worst;
    while (size_ > kept && score(size_ - 1) > worst) --size_;
  }

  bool has_next() const {
    return cursor_ < std::min<size_t>(size_, window_) && !(next_score() > limit_);
  }

  // The best vertex not expanded, which is marked expanded.
  uint32_t pop() {
    const uint32_t id = id_of(keys_[cursor_]);
    keys_[cursor_] |= 1;
    do {
      ++cursor_;
    } while (cursor_ < size_ && (keys_[cursor_] & 1) != 0);
    return id;
  }

  // Where pop() would look, and who was expanded: for walks that choose among several, or meet a
  // candidate's row before its turn (search/disk_walk.h).
  size_t cursor() const { return cursor_; }
  size_t window() const { return window_; }
  bool is_expanded(size_t i) const { return (keys_[i] & 1) != 0; }
  void mark_expanded(size_t i) {
    keys_[i] |= 1;
    while (cursor_ < size_ && (keys_[cursor_] & 1) != 0) ++cursor_;
  }
  // The place of a candidate; size() if it is none.
  size_t find(float score, uint32_t id) {
    const uint64_t key = make_key(score, id);
    uint64_t* const begin = keys_.data();
    uint64_t* const place = lower_bound(begin, size_, key);
    const bool here = place != begin + size_ && (*place | 1) == (key | 1);
    return here ? static_cast<size_t>(place - begin) : size_;
  }

  // What pop() would give; only if has_next().
  uint32_t peek() const { return id_of(keys_[cursor_]); }

  float next_score() const { return score_of(keys_[cursor_]); }

  size_t size() const { return size_; }
  uint32_t id(size_t i) const { return id_of(keys_[i]); }
  float score(size_t i) const { return score_of(keys_[i]); }

 private:
  static uint64_t make_key(float score, uint32_t id) {
    const uint32_t bits = std::bit_cast<uint32_t>(score);
    // Negative floats order backwards as integers: flip all bits; others: set the sign bit.
    const uint32_t ordered = bits ^ ((bits >> 31) != 0 ? 0xffffffffu : 0x80000000u);
    return uint64_t{ordered} << 32 | uint64_t{id} << 1;
  }
  static uint32_t id_of(uint64_t key) { return static_cast<uint32_t>(key) >> 1; }
  static float score_of(uint64_t key) {
    const uint32_t ordered = static_cast<uint32_t>(key >> 32);
    return std::bit_cast<float>(ordered ^ ((ordered >> 31) != 0 ? 0x80000000u : 0xffffffffu));
  }

  // Halving without branches: the comparison is a coin toss to a predictor. The mask keeps GCC
  // from making a branch of it, which cost 12 % of a search (bench/LOG.md).
  static uint64_t* lower_bound(uint64_t* first, size_t count, uint64_t key) {
    while (count > 1) {
      const size_t half = count / 2;
      first += half & (size_t{0} - static_cast<size_t>(first[half - 1] < key));
      count -= half;
    }
    return first + (count == 1 && *first < key ? 1 : 0);
  }

  std::vector<uint64_t> keys_;
  size_t window_ = 1, capacity_ = 1, size_ = 0, cursor_ = 0;
  float worst_ = std::numeric_limits<float>::infinity(), limit_ = worst_;
};

}  // namespace bigrain::search
