// SPDX-License-Identifier: Apache-2.0
#include "search/greedy.h"

#include <algorithm>
#include <bit>
#include <string>

namespace bigrain::search {

namespace {

// Lines of a code record that gather() asks for; score_codes fetches the rest of long ones ahead.
constexpr size_t kMostLines = 4;

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

void prefetch_code(const CodesView& codes, uint32_t id) {
  const size_t bytes = std::min(codes.stride, kMostLines * 64);
  for (size_t offset = 0; offset < bytes; offset += 64) {
    __builtin_prefetch(codes.record(id) + offset);
  }
}

}  // namespace

void GreedyWalk::start(const Terrain& terrain, const simd::CodeQuery& query,
                       std::span<const uint32_t> entries, uint32_t window, uint32_t capacity,
                       GreedyScratch& scratch, const EarlyEnd& early,
                       const quant::SignQuery* signs) {
  terrain_ = &terrain;
  scratch_ = &scratch;
  query_ = query;
  early_ = early;
  signs_ = signs;
  stats_ = {};
  const size_t stride = terrain.graph.stride;
  scratch.pool.reset(window, capacity);
  scratch.visited.reset(size_t{window} * stride / 2);
  const size_t room = std::max(stride, entries.size()) + 1;
  if (scratch.batch.size() < room) {
    scratch.batch.resize(room);
    scratch.scores.resize(room);
  }
  gathered_ = 0;
  for (uint32_t entry : entries) {
    scratch.batch[gathered_] = entry;
    gathered_ += scratch.visited.insert(entry) ? 1 : 0;
  }
  score();
  stats_.hops = 0;
}

void GreedyWalk::gather() {
  Pool& pool = scratch_->pool;
  const float score = pool.next_score(), limit = pool.worst();
  const uint32_t vertex = pool.pop();
  gathered_ = signs_ == nullptr ? gather_row(vertex) : gather_near(vertex, score, limit);
  const uint32_t* batch = scratch_->batch.data();
  for (size_t i = 0; i < gathered_; ++i) prefetch_code(terrain_->codes, batch[i]);
}

size_t GreedyWalk::gather_row(uint32_t vertex) {
  const GraphView& graph = terrain_->graph;
  const uint32_t* row = graph.row(vertex);
  uint32_t* const batch = scratch_->batch.data();
  size_t gathered = 0;
  for (size_t i = 0; i < graph.stride; ++i) {
    const uint32_t id = row[i];
    if (id == vertex) break;
    if (id >= graph.count) throw_bad_id(vertex, id, graph.count);
    batch[gathered] = id;
    gathered += scratch_->visited.insert(id) ? 1 : 0;
  }
  return gathered;
}

size_t GreedyWalk::gather_near(uint32_t vertex, float score, float limit) {
  const GraphView& graph = terrain_->graph;
  const quant::NeighbourBlocks& blocks = terrain_->blocks;
  const uint32_t* row = graph.row(vertex);
  uint32_t* const batch = scratch_->batch.data();
  size_t gathered = 0;
  for (size_t part = 0; part < blocks.parts_per_vertex(); ++part) {
    uint32_t mask = blocks.near(*signs_, vertex, part, score, limit);
    for (; mask != 0; mask &= mask - 1) {
      const uint32_t id = row[part * quant::kBlockNeighbours + std::countr_zero(mask)];
      if (id >= graph.count) throw_bad_id(vertex, id, graph.count);
      batch[gathered] = id;
      gathered += scratch_->visited.insert(id) ? 1 : 0;
    }
  }
  return gathered;
}

void GreedyWalk::score() {
  Pool& pool = scratch_->pool;
  const uint32_t* batch = scratch_->batch.data();
  float* const scores = scratch_->scores.data();
  terrain_->score_codes(query_, terrain_->codes.records, terrain_->codes.stride, batch, gathered_,
                        scores);
  for (size_t i = 0; i < gathered_; ++i) pool.insert(scores[i], batch[i]);
  if (early_.k != 0 && pool.size() >= early_.k) end_early();
  if (pool.has_next()) {
    prefetch_row(terrain_->graph, pool.peek());
    if (signs_ != nullptr) terrain_->blocks.prefetch(pool.peek());
  }
  stats_.hops += 1;
  stats_.code_distances += static_cast<uint32_t>(gathered_);
}

void GreedyWalk::end_early() {
  const float last = scratch_->pool.score(early_.k - 1);
  // What codes say may lie below zero, by their errors.
  const float distance = std::max(last + early_.norm, 0.0f);
  scratch_->pool.limit(last + (early_.factor - 1) * distance, early_.kept);
}

void greedy_search(const GraphView& graph, const CodesView& codes, const simd::CodeQuery& query,
                   simd::ScoreCodesFn score_codes, uint32_t entry, uint32_t window,
                   uint32_t capacity, GreedyScratch& scratch, QueryStats& stats,
                   std::vector<ScoredId>* expanded) {
  const Terrain terrain{graph, codes, score_codes};
  GreedyWalk walk;
  walk.start(terrain, query, std::span(&entry, 1), window, capacity, scratch);
  while (walk.has_next()) {
    if (expanded != nullptr) expanded->push_back({walk.next_score(), walk.next()});
    walk.gather();
    walk.score();
  }
  stats = walk.stats();
}

}  // namespace bigrain::search
