// SPDX-License-Identifier: Apache-2.0
// Greedy search of a graph on codes (DiskANN, NeurIPS 2019, algorithm 1): expand the nearest vertex
// not yet expanded until the window holds none.
//
// Differs from the paper: the pool keeps more candidates than it expands (capacity > window), whole
// rows are scored by one batch kernel after their unseen ids are gathered and prefetched, and a
// vertex may be scored twice (see search/visited.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bigrain/index.h"
#include "search/pool.h"
#include "search/visited.h"
#include "simd/kernels.h"

namespace bigrain::search {

// Rows of `stride` ids; a row ends at the vertex's own id or at the stride. Borrowed.
struct GraphView {
  const uint32_t* rows = nullptr;
  size_t stride = 0;
  size_t count = 0;

  const uint32_t* row(uint32_t id) const { return rows + size_t{id} * stride; }
};

struct CodesView {
  const std::byte* records = nullptr;
  size_t stride = 0;

  const std::byte* record(uint32_t id) const { return records + size_t{id} * stride; }
};

struct ScoredId {
  float score;
  uint32_t id;
};

// Memory of one search, reused by the next one of the same thread.
struct GreedyScratch {
  Pool pool;
  Visited visited;
  std::vector<uint32_t> batch;
  std::vector<float> scores;
};

// Leaves the best candidates in scratch.pool, sorted by score_codes' scores. With `expanded`, also
// every vertex that was expanded, in that order: the candidates of a build. Throws Error(corrupt)
// on an id outside the graph.
void greedy_search(const GraphView& graph, const CodesView& codes, const simd::CodeQuery& query,
                   simd::ScoreCodesFn score_codes, uint32_t entry, uint32_t window,
                   uint32_t capacity, GreedyScratch& scratch, QueryStats& stats,
                   std::vector<ScoredId>* expanded = nullptr);

}  // namespace bigrain::search
