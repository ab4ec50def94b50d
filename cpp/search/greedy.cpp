// SPDX-License-Identifier: Apache-2.0
#include "search/greedy.h"

#include <string>

namespace bigrain::search {

namespace {

[[noreturn]] void throw_bad_id(uint32_t vertex, uint32_t id, size_t count) {
  throw Error::corrupt("section graph: row " + std::to_string(vertex) + " names vertex " +
                       std::to_string(id) + "; expected ids below " + std::to_string(count) +
                       "; the index is damaged, build or copy it again");
}

void prefetch_row(const GraphView& graph, uint32_t id) {
  const char* row = reinterpret_cast<const char*>(graph.row(id));
  for (size_t offset = 0; offset < graph.stride * sizeof(uint32_t); offset += 64) {
    __builtin_prefetch(row + offset);
  }
}

// Unseen neighbours of `vertex` into scratch.batch.
size_t gather(const GraphView& graph, uint32_t vertex, GreedyScratch& scratch) {
  const uint32_t* row = graph.row(vertex);
  uint32_t* const batch = scratch.batch.data();
  size_t gathered = 0;
  for (size_t i = 0; i < graph.stride; ++i) {
    const uint32_t id = row[i];
    if (id == vertex) break;
    if (id >= graph.count) throw_bad_id(vertex, id, graph.count);
    batch[gathered] = id;
    gathered += scratch.visited.insert(id) ? 1 : 0;
  }
  return gathered;
}

// The row of the best newcomer, if it will be expanded next: its miss passes behind the insertions.
void prefetch_best(const GraphView& graph, const Pool& pool, const GreedyScratch& scratch,
                   size_t gathered) {
  size_t best = 0;
  for (size_t i = 1; i < gathered; ++i) {
    best = scratch.scores[i] < scratch.scores[best] ? i : best;
  }
  if (gathered != 0 && (!pool.has_next() || scratch.scores[best] < pool.next_score())) {
    prefetch_row(graph, scratch.batch[best]);
  }
}

}  // namespace

void greedy_search(const GraphView& graph, const CodesView& codes, const simd::CodeQuery& query,
                   simd::ScoreCodesFn score_codes, uint32_t entry, uint32_t window,
                   uint32_t capacity, GreedyScratch& scratch, QueryStats& stats,
                   std::vector<ScoredId>* expanded) {
  Pool& pool = scratch.pool;
  pool.reset(window, capacity);
  scratch.visited.reset(size_t{window} * graph.stride / 2);
  if (scratch.batch.size() < graph.stride + 1) {
    scratch.batch.resize(graph.stride + 1);
    scratch.scores.resize(graph.stride + 1);
  }
  float* const scores = scratch.scores.data();
  scratch.visited.insert(entry);
  score_codes(query, codes.records, codes.stride, &entry, 1, scores);
  pool.insert(scores[0], entry);
  stats.code_distances += 1;

  while (pool.has_next()) {
    if (expanded != nullptr) expanded->push_back({pool.next_score(), pool.peek()});
    const uint32_t vertex = pool.pop();
    const size_t gathered = gather(graph, vertex, scratch);
    if (pool.has_next()) prefetch_row(graph, pool.peek());
    score_codes(query, codes.records, codes.stride, scratch.batch.data(), gathered, scores);
    prefetch_best(graph, pool, scratch, gathered);
    for (size_t i = 0; i < gathered; ++i) pool.insert(scores[i], scratch.batch[i]);
    stats.hops += 1;
    stats.code_distances += static_cast<uint32_t>(gathered);
  }
}

}  // namespace bigrain::search
