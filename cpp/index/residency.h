// SPDX-License-Identifier: Apache-2.0
// What of an index stays in memory under a budget, and what it costs.
//
// The order is that of what a byte saves in reads (docs/design.md, "One index under any budget"):
// codes, entry points, rows of hot points, all rows (and then the longer codes), all vectors.
#pragma once

#include <cstdint>
#include <string>

#include "format/nodes.h"
#include "format/parts.h"

namespace bigrain {

// What searches do without any vector in memory.
enum class SearchMode : uint8_t {
  memory,    // everything is in memory
  vectors,   // codes and rows are in memory; vectors are read at the end of a walk
  adjacency  // PQ codes are in memory; rows and vectors are read on the way
};
const char* name_of(SearchMode mode);

struct Residency {
  SearchMode mode = SearchMode::memory;
  uint64_t budget = 0;       // as asked; kAllMemory: no limit
  uint64_t hot_rows = 0;     // rows in memory, in adjacency mode
  uint64_t hot_vectors = 0;  // vectors in memory, in vectors mode
  uint64_t entries = 0;      // points where a walk looks first, in adjacency mode
  uint64_t bytes = 0;        // of everything that stays
  std::string reason;        // why this, in words
};

// Sections that are in memory as a whole, by mode: each holds what its searches, or save(), read.
struct SmallBytes {
  uint64_t memory = 0, vectors = 0, adjacency = 0;
};

// Throws Error(invalid_argument) where the budget is
// below the least that searches need, naming that.
Residency plan_residency(const IndexMeta& meta, const format::NodeShape& shape,
                         const SmallBytes& small, uint64_t budget);

}  // namespace bigrain
