// SPDX-License-Identifier: Apache-2.0
// Which vertices a search has seen: a small hash table that forgets instead of growing.
//
// A bitmap of n bits must be cleared for every query and lives in L2 or beyond; this table stays in
// L1 or L2 for usual widths, and an epoch in each entry makes clearing free. It is direct-mapped: a
// vertex that loses its slot costs one more distance and is dropped by the pool, which holds its
// key already (as SVS's filter; its wiping and 16-bit entries are not needed here).
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
    if (slots > slots_.size()) {
      slots_.assign(slots, 0);
      epoch_ = 0;
    }
    shift_ = 64 - static_cast<uint32_t>(std::countr_zero(slots));
    if (++epoch_ == 0) {  // wrapped: entries of 2^32 searches ago would look new
      slots_.assign(slots_.size(), 0);
      epoch_ = 1;
    }
  }

  // True the first time that it is asked for `id`, and again once another id took its slot.
  // No branches: whether a neighbour is new is a coin toss to a predictor.
  bool insert(uint32_t id) {
    const uint64_t entry = uint64_t{epoch_} << 32 | id;
    // Fibonacci hashing: multiplicative constant 2^64 / golden ratio (Knuth, TAOCP 3, 6.4).
    uint64_t& slot = slots_[(id * 0x9e3779b97f4a7c15u) >> shift_];
    const bool is_new = slot != entry;
    slot = entry;
    return is_new;
  }

 private:
  static constexpr size_t kSlotsPerVertex = 2;  // bench/LOG.md
  static constexpr size_t kMinSlots = 1024, kMaxSlots = size_t{1} << 22;

  std::vector<uint64_t> slots_;  // epoch << 32 | id
  uint32_t epoch_ = 0;
  uint32_t shift_ = 64;
};

}  // namespace bigrain::search
