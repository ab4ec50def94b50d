// SPDX-License-Identifier: Apache-2.0
// One query against an index: codes decide where to look, full vectors decide the answer.
#pragma once

#include <cstdint>
#include <vector>

#include "bigrain/index.h"
#include "bigrain/params.h"
#include "format/parts.h"
#include "quant/code_space.h"
#include "search/greedy.h"
#include "simd/kernels.h"

namespace bigrain::search {

// Memory that one thread reuses from query to query.
struct QueryScratch {
  explicit QueryScratch(size_t stride) : code(stride) {}

  GreedyScratch greedy;
  std::vector<float> mapped;
  Buffer code;
  std::vector<ScoredId> results;
};

// Prepared once per call: parameters resolved, kernels chosen.
class QuerySearch {
 public:
  // `parts` is borrowed. Parameters have been checked (index/search.cpp).
  QuerySearch(const IndexParts& parts, const SearchParams& params, const simd::Kernels& kernels);

  // Writes k ids and distances, nearest first, padded with -1 and +infinity.
  QueryStats run(const void* query, QueryScratch& scratch, int64_t* ids, float* distances) const;

  size_t stride() const { return space_.stride(); }

 private:
  void rerank(const void* query, QueryScratch& scratch, QueryStats& stats) const;

  const IndexParts& parts_;
  const simd::Kernels& kernels_;
  quant::CodeSpace space_;
  GraphView graph_;
  CodesView codes_;
  simd::DistanceFn distance_;
  uint32_t k_, window_, capacity_, rerank_;
};

}  // namespace bigrain::search
