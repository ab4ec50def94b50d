// SPDX-License-Identifier: Apache-2.0
#include "search/interleave.h"

#include <algorithm>

namespace bigrain::search {

namespace {

// Queries under way: 2 give most of the gain, 4 to 8 are alike (bench/LOG.md).
constexpr size_t kSlots = 4;

}  // namespace

Interleaver::Interleaver(const QuerySearch& search) : search_(search) {}

void Interleaver::run(const MatrixView& queries, size_t begin, size_t end,
                      const SearchOutput& output) {
  while (slots_.size() < std::min(kSlots, end - begin)) {
    slots_.push_back(std::make_unique<Slot>(search_.stride()));
  }
  size_t next = begin;
  size_t active = std::min(slots_.size(), end - begin);
  const auto start = [&](Slot& slot) {
    slot.query = next++;
    search_.start(queries.row(slot.query), slot.scratch);
  };
  for (size_t i = 0; i < active; ++i) start(*slots_[i]);
  while (active > 0) {
    for (size_t i = 0; i < active;) {
      Slot& slot = *slots_[i];
      if (!search_.step(slot.scratch)) {
        ++i;
        continue;
      }
      const QueryStats stats = search_.finish(slot.scratch, output.ids + slot.query * search_.k(),
                                              output.distances + slot.query * search_.k());
      if (output.stats != nullptr) output.stats[slot.query] = stats;
      if (next < end) {
        start(slot);
        ++i;
      } else {
        std::swap(slots_[i], slots_[--active]);
      }
    }
  }
}

}  // namespace bigrain::search
