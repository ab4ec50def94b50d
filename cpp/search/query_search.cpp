// SPDX-License-Identifier: Apache-2.0
#include "search/query_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "quant/scalar8.h"

namespace bigrain::search {

namespace {

// Full vectors asked for ahead of the one being compared. 1, 3 and 8 were alike (bench/LOG.md).
constexpr size_t kLookAhead = 3;

void prefetch(const std::byte* vector, size_t bytes) {
  for (size_t offset = 0; offset < bytes; offset += 64) __builtin_prefetch(vector + offset);
}

uint32_t at_most_count(uint32_t value, uint64_t count) {
  return static_cast<uint32_t>(std::min<uint64_t>(value, std::max<uint64_t>(count, 1)));
}

}  // namespace

QuerySearch::QuerySearch(const IndexParts& parts, const SearchParams& params,
                         const simd::Kernels& kernels)
    : parts_(parts),
      kernels_(kernels),
      space_(parts, kernels),
      graph_{parts.graph.as<uint32_t>().data(), parts.meta.degree, parts.meta.count},
      codes_{parts.codes.data(), space_.stride()},
      distance_(kernels.distance_of(parts.meta.metric, parts.meta.dtype)),
      k_(params.k) {
  const uint32_t width = params.width != 0 ? params.width : std::max(kDefaultWidth, k_);
  const uint32_t rerank =
      params.rerank != 0 ? std::max(params.rerank, k_) : default_rerank(k_, width);
  window_ = at_most_count(width, parts.meta.count);
  rerank_ = at_most_count(rerank, parts.meta.count);
  capacity_ = std::max(window_, rerank_);
}

QueryStats QuerySearch::run(const void* query, QueryScratch& scratch, int64_t* ids,
                            float* distances) const {
  QueryStats stats;
  scratch.results.clear();
  if (parts_.meta.count != 0) {
    scratch.mapped.resize(space_.dim());
    space_.map_query(query, scratch.mapped);
    const simd::CodeQuery code = quant::prepare(scratch.mapped, space_.stride(),
                                                reinterpret_cast<int8_t*>(scratch.code.data()));
    greedy_search(graph_, codes_, code, kernels_.score_codes, parts_.meta.entry, window_, capacity_,
                  scratch.greedy, stats);
    rerank(query, scratch, stats);
  }
  const std::span<const int64_t> external = parts_.ids.as<int64_t>();
  const size_t found = std::min<size_t>(k_, scratch.results.size());
  for (size_t i = 0; i < found; ++i) {
    const uint32_t id = scratch.results[i].id;
    ids[i] = external.empty() ? int64_t{id} : external[id];
    distances[i] = scratch.results[i].score;
  }
  std::fill(ids + found, ids + k_, int64_t{-1});
  std::fill(distances + found, distances + k_, std::numeric_limits<float>::infinity());
  return stats;
}

void QuerySearch::rerank(const void* query, QueryScratch& scratch, QueryStats& stats) const {
  const Pool& pool = scratch.greedy.pool;
  const size_t bytes = parts_.meta.dim * item_size(parts_.meta.dtype);
  const std::byte* vectors = parts_.vectors.data();
  const size_t count = std::min<size_t>(pool.size(), rerank_);
  for (size_t i = 0; i < std::min(kLookAhead, count); ++i) {
    prefetch(vectors + size_t{pool.id(i)} * bytes, bytes);
  }
  for (size_t i = 0; i < count; ++i) {
    if (i + kLookAhead < count) {
      prefetch(vectors + size_t{pool.id(i + kLookAhead)} * bytes, bytes);
    }
    const uint32_t id = pool.id(i);
    const float distance = distance_(query, vectors + size_t{id} * bytes, parts_.meta.dim);
    // Only a damaged file holds vectors that give NaN; such a point is no answer.
    if (!std::isnan(distance)) scratch.results.push_back({distance, id});
  }
  stats.full_distances += static_cast<uint32_t>(count);
  const size_t found = std::min<size_t>(k_, scratch.results.size());
  std::partial_sort(scratch.results.begin(),
                    scratch.results.begin() + static_cast<ptrdiff_t>(found), scratch.results.end(),
                    [](const ScoredId& a, const ScoredId& b) {
                      return a.score != b.score ? a.score < b.score : a.id < b.id;
                    });
}

}  // namespace bigrain::search
