// SPDX-License-Identifier: Apache-2.0
// One query against an index: codes decide where to look, full vectors decide the answer.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "bigrain/index.h"
#include "bigrain/params.h"
#include "format/parts.h"
#include "quant/code_space.h"
#include "quant/score_bound.h"
#include "quant/sign_query.h"
#include "search/greedy.h"
#include "search/nearest_k.h"
#include "simd/kernels.h"

namespace bigrain::search {

// Memory that one thread reuses from query to query, and the state of the query under way.
struct QueryScratch {
  explicit QueryScratch(size_t stride) : code(stride) {}

  GreedyScratch greedy;
  GreedyWalk walk;
  quant::MapScratch map;
  quant::SignQuery signs;
  Buffer code;
  NearestK nearest;
  const void* query = nullptr;
  quant::ScoreBound bound;
  uint32_t ranked = 0;  // candidates compared by their vectors
  // Of the candidates ranked, where vectors and ids come from a file.
  std::vector<std::pair<uint32_t, int64_t>> external;
  enum class Step { gather, score, rank } step = Step::rank;
};

// Prepared once per call: parameters resolved, kernels chosen.
class QuerySearch {
 public:
  // `parts` is borrowed. Parameters have been checked (index/search.cpp).
  QuerySearch(const IndexParts& parts, const SearchParams& params, const simd::Kernels& kernels);

  // A query goes through start(), step() until it returns true, and finish(), which writes k ids
  // and distances, nearest first, padded with -1 and +infinity. Every step ends with a prefetch of
  // what the next one reads.
  void start(const void* query, QueryScratch& scratch) const;
  bool step(QueryScratch& scratch) const;
  QueryStats finish(QueryScratch& scratch, int64_t* ids, float* distances) const;

  // For rankings whose vectors come from elsewhere.
  bool is_walking(const QueryScratch& scratch) const {
    return scratch.step != QueryScratch::Step::rank;
  }
  size_t candidates(const QueryScratch& scratch) const {
    return std::min<size_t>(scratch.greedy.pool.size(), rerank_);
  }
  float distance(const void* query, const std::byte* vector) const {
    return distance_(query, vector, parts_.meta.dim);
  }
  int64_t external_id(uint32_t id) const {
    const std::span<const int64_t> external = parts_.ids.as<int64_t>();
    return external.empty() ? int64_t{id} : external[id];
  }

  uint32_t k() const { return k_; }
  size_t stride() const { return space_.stride(); }

 private:
  // Throws Error(corrupt) where not the query but the index is to blame.
  simd::CodeQuery encode(const void* query, QueryScratch& scratch,
                         std::span<const float>* mapped) const;
  void next_step(QueryScratch& scratch) const;
  void rank(QueryScratch& scratch) const;
  void prefetch_vector(uint32_t id) const;

  const IndexParts& parts_;
  quant::CodeSpace space_;
  Terrain terrain_;
  bool is_fast_;
  simd::DistanceFn distance_;
  size_t vector_bytes_;
  uint32_t k_, window_, capacity_, rerank_, kept_;  // kept_: EarlyEnd::kept
  float slack_;
};

}  // namespace bigrain::search
