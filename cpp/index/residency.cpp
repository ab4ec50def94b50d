// SPDX-License-Identifier: Apache-2.0
#include "index/residency.h"

#include <algorithm>

#include "bigrain/error.h"
#include "bigrain/params.h"
#include "search/disk_terrain.h"

namespace bigrain {

namespace {

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

Residency plan_residency(const IndexMeta& meta, const format::NodeShape& shape,
                         const SmallBytes& small, uint64_t budget) {
  const Sizes sizes = sizes_of(meta, shape);
  Residency plan;
  plan.budget = budget;
  plan.bytes = small.memory + sizes.codes + sizes.rows + sizes.vectors + sizes.ids +
               (meta.pq_given ? sizes.pq_codes : 0);
  plan.reason = "everything fits the budget";
  if (budget == kAllMemory || plan.bytes <= budget) return plan;

  // Ids lie beside the vectors where these are read.
  const uint64_t ids = shape.coupled ? 0 : sizes.ids;
  plan.mode = SearchMode::vectors;
  plan.bytes = small.vectors + sizes.sums + sizes.codes + sizes.rows + ids;
  plan.reason = "codes and rows fit the budget, vectors do not";
  if (plan.bytes <= budget) {
    const uint64_t each = search::HotRows::bytes_each((shape.vector_bytes + 3) / 4 * 4,
                                                      shape.has_ids && shape.coupled);
    plan.hot_vectors = std::min(meta.count, (budget - plan.bytes) / each);
    plan.bytes += plan.hot_vectors * each;
    return plan;
  }

  if (meta.pq_bytes == 0) {
    if (budget != kLeastMemory) too_little(budget, plan.bytes, "the codes and rows");
    plan.reason = "the least that this index can do with: it has no PQ codes";
    return plan;
  }
  plan.mode = SearchMode::adjacency;
  plan.entries = search::disk_entries(meta.count).size();
  plan.bytes = small.adjacency + sizes.sums + sizes.pq_codes + plan.entries * sizeof(uint32_t);
  plan.reason = "PQ codes fit the budget, rows and longer codes do not";
  if (plan.bytes > budget && budget != kLeastMemory) {
    too_little(budget, plan.bytes, "the PQ codes");
  }
  const uint64_t left = budget > plan.bytes ? budget - plan.bytes : 0;
  const uint64_t each = search::HotRows::bytes_each(shape.row_bytes, shape.has_ids);
  plan.hot_rows = std::min(meta.count, left / each);
  plan.bytes += plan.hot_rows * each;
  return plan;
}

}  // namespace bigrain
