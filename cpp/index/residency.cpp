// SPDX-License-Identifier: Apache-2.0
#include "index/residency.h"

#include <algorithm>
#include <cmath>

#include "bigrain/error.h"
#include "bigrain/params.h"

namespace bigrain {

namespace {

// A row that is kept apart: its ids, the number of its point, and its slot in a table half full.
constexpr uint64_t kHotRowExtra = 4 + 2 * 8;

struct Sizes {
  uint64_t rows, vectors, ids, codes, pq_codes, sums;
};

Sizes sizes_of(const IndexMeta& meta, const format::NodeShape& shape) {
  return {.rows = meta.count * shape.row_bytes,
          .vectors = meta.count * shape.vector_bytes,
          .ids = shape.has_ids ? meta.count * sizeof(int64_t) : 0,
          .codes = meta.count * code_stride(meta.code_dim),
          .pq_codes = meta.count * meta.pq_bytes,
          .sums = shape.pages() * sizeof(uint32_t)};
}

// sqrt(n) points are as good as one in a hundred (bench/LOG.md, "entry points on disk").
uint64_t entry_points(uint64_t count) {
  return static_cast<uint64_t>(std::ceil(std::sqrt(static_cast<double>(count))));
}

[[noreturn]] void too_little(uint64_t budget, uint64_t least, const char* what) {
  throw Error::invalid("memory: got " + std::to_string(budget) + " bytes; expected at least " +
                       std::to_string(least) + " for " + what +
                       " of this index, or \"min\" for just that");
}

}  // namespace

const char* name_of(SearchMode mode) {
  switch (mode) {
    case SearchMode::memory:
      return "memory";
    case SearchMode::vectors:
      return "vectors on disk";
    case SearchMode::adjacency:
      return "rows and vectors on disk";
  }
  return "unknown";
}

Residency plan_residency(const IndexMeta& meta, const format::NodeShape& shape, uint64_t hot,
                         uint64_t small_bytes, uint64_t budget) {
  const Sizes sizes = sizes_of(meta, shape);
  Residency plan;
  plan.budget = budget;
  plan.bytes = small_bytes + sizes.codes + sizes.rows + sizes.vectors + sizes.ids;
  plan.reason = "everything fits the budget";
  if (budget == kAllMemory || plan.bytes <= budget) return plan;

  // Ids lie beside the vectors where these are read.
  const uint64_t ids = shape.coupled ? 0 : sizes.ids;
  plan.mode = SearchMode::vectors;
  plan.bytes = small_bytes + sizes.sums + sizes.codes + sizes.rows + ids;
  plan.reason = "codes and rows fit the budget, vectors do not";
  if (plan.bytes <= budget) return plan;

  if (meta.pq_bytes == 0) {
    if (budget != kLeastMemory) too_little(budget, plan.bytes, "the codes and rows");
    plan.reason = "the least that this index can do with: it has no PQ codes";
    return plan;
  }
  plan.mode = SearchMode::adjacency;
  plan.entries = entry_points(meta.count);
  plan.bytes = small_bytes + sizes.sums + sizes.pq_codes + plan.entries * sizeof(uint32_t);
  plan.reason = "PQ codes fit the budget, rows and longer codes do not";
  if (plan.bytes > budget && budget != kLeastMemory) {
    too_little(budget, plan.bytes, "the PQ codes");
  }
  const uint64_t left = budget > plan.bytes ? budget - plan.bytes : 0;
  plan.hot_rows = std::min(hot, left / (shape.row_bytes + kHotRowExtra));
  plan.bytes += plan.hot_rows * (shape.row_bytes + kHotRowExtra);
  return plan;
}

}  // namespace bigrain
