// SPDX-License-Identifier: Apache-2.0
// Which vertices a search has seen: a small hash table that forgets instead of growing.
//
// A bitmap of n bits must be cleared for every query and lives in L2 or beyond; this table stays in
// L1 or L2 for usual widths, where clearing it takes well under 1 % of the search. It is
// direct-mapped: a vertex that loses its slot costs one more distance and is dropped by the pool,
// which holds its key already (as SVS's filter).
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

namespace bigrain::search {

class Visited {
 public:
  // Forgets everything. `expected`: how many vertices the search will touch, roughly.
  void reset(size_t expected) {
    const size_t slots =
        std::bit_ceil(std::clamp(kSlotsPerVertex * expected, kMinSlots, kMaxSlots));
    slots_.assign(slots, kEmpty);
    shift_ = 64 - static_cast<uint32_t>(std::countr_zero(slots));
  }

  // True the first time that it is asked for `id`, and again once another id took its slot.
  // No branches: whether a neighbour is new is a coin toss to a predictor.
  bool insert(uint32_t id) {
    // Fibonacci hashing: multiplicative constant 2^64 / golden ratio (Knuth, TAOCP 3, 6.4).
    uint32_t& slot = slots_[(id * 0x9e3779b97f4a7c15u) >> shift_];
    const bool is_new = slot != id;
    slot = id;
    return is_new;
  }

 private:
  static constexpr size_t kSlotsPerVertex = 2;  // bench/LOG.md
  static constexpr size_t kMinSlots = 1024, kMaxSlots = size_t{1} << 22;
  static constexpr uint32_t kEmpty = 0xffffffffu;  // no id: they end at 2^31 - 2

  std::vector<uint32_t> slots_;
  uint32_t shift_ = 64;
};

}  // namespace bigrain::search
