// SPDX-License-Identifier: Apache-2.0
// Greedy search of a graph on codes (DiskANN, NeurIPS 2019, algorithm 1): expand the nearest vertex
// not yet expanded until the window holds none.
//
// Differs from the paper: the pool keeps more candidates than it expands (capacity > window), whole
// rows are scored by one batch kernel after their unseen ids are gathered and prefetched, and a
// vertex may be scored twice (see search/visited.h). A walk is cut into steps that each end in a
// prefetch, so that a thread can take turns between several walks and none waits for memory
// (search/interleave.h).
//
// A walk may end early, by distance instead of by number (Al-Jazzazi et al., "Distance adaptive
// beam search", NeurIPS 2025, section 3): what is farther than the k-th candidate by a given factor
// is not expanded. Hard queries then get the wide window that easy ones do without, and the pool
// stays as small as what is near.
//
// In the fast layout, gather() reads the bits packed beside the vertex and gathers only neighbours
// that may score below the pool's worst (quant/neighbour_blocks.h). The pool holds the scores of
// 8-bit codes either way.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bigrain/index.h"
#include "quant/neighbour_blocks.h"
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

// Where a walk goes: the same for all walks of a call.
struct Terrain {
  GraphView graph;
  CodesView codes;
  simd::ScoreCodesFn score_codes = nullptr;
  quant::NeighbourBlocks blocks = {};  // needed where a walk starts with a SignQuery
};

// Memory of one search, reused by the next one of the same thread.
struct GreedyScratch {
  Pool pool;
  Visited visited;
  std::vector<uint32_t> batch;
  std::vector<float> scores;
};

// When a walk ends before its window is expanded: once the next candidate is farther than the k-th,
// by `factor` in squared distances, which are scores plus `norm`. The best `kept` stay candidates.
struct EarlyEnd {
  uint32_t k = 0, kept = 0;  // k 0: never
  float factor = 1, norm = 0;
};

// One search, step by step. Everything is borrowed.
class GreedyWalk {
 public:
  // `entries` are scored and become the first candidates. With `signs`, the same query for the fast
  // layout, most neighbours are passed over unscored.
  void start(const Terrain& terrain, const simd::CodeQuery& query,
             std::span<const uint32_t> entries, uint32_t window, uint32_t capacity,
             GreedyScratch& scratch, const EarlyEnd& early = {},
             const quant::SignQuery* signs = nullptr);

  // Whether there is a vertex to expand.
  bool has_next() const { return scratch_->pool.has_next(); }
  uint32_t next() const { return scratch_->pool.peek(); }
  float next_score() const { return scratch_->pool.next_score(); }

  // The two steps of expanding next(): its row is read and the codes of unseen neighbours are asked
  // for; then they are scored, and the row of the new next() is asked for. Throws Error(corrupt) on
  // an id outside the graph.
  void gather();
  void score();

  const QueryStats& stats() const { return stats_; }

 private:
  void end_early();
  size_t gather_row(uint32_t vertex);
  size_t gather_near(uint32_t vertex, float score, float limit);

  const Terrain* terrain_ = nullptr;
  const quant::SignQuery* signs_ = nullptr;
  GreedyScratch* scratch_ = nullptr;
  simd::CodeQuery query_{};
  EarlyEnd early_;
  QueryStats stats_;
  size_t gathered_ = 0;
};

// A whole walk from one entry. Leaves the best candidates in scratch.pool, sorted by score_codes'
// scores. With `expanded`, also every vertex that was expanded, in that order: the candidates of a
// build.
void greedy_search(const GraphView& graph, const CodesView& codes, const simd::CodeQuery& query,
                   simd::ScoreCodesFn score_codes, uint32_t entry, uint32_t window,
                   uint32_t capacity, GreedyScratch& scratch, QueryStats& stats,
                   std::vector<ScoredId>* expanded = nullptr);

}  // namespace bigrain::search
