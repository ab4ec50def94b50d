// SPDX-License-Identifier: Apache-2.0
#include "search/query_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "bigrain/error.h"
#include "quant/code_space.h"
#include "quant/scalar8.h"

namespace bigrain::search {

namespace {

// Full vectors asked for ahead of the one being compared. 1, 3 and 8 were alike (bench/LOG.md).
constexpr size_t kLookAhead = 4;

uint32_t at_most_count(uint32_t value, uint64_t count) {
  return static_cast<uint32_t>(std::min<uint64_t>(value, std::max<uint64_t>(count, 1)));
}

// What shorter codes were seen to need when their length was chosen, for k instead of kTrialK.
uint32_t trial_rerank(const IndexParts& parts, uint32_t k) {
  if (!parts.is_projected()) return 0;
  for (const CodeDimTrial& trial : parts.trials) {
    if (trial.code_dim != parts.meta.code_dim) continue;
    const double wanted = static_cast<double>(trial.rerank) * k / kTrialK;
    return static_cast<uint32_t>(std::min(wanted, static_cast<double>(kMaxWidth)));
  }
  return 0;
}

// Whether its distances to vectors of the index are numbers, as far as the query decides.
bool is_usable(const IndexMeta& meta, const void* query) {
  std::vector<float> x(meta.dim);
  quant::load_vector(query, meta.dtype == Dtype::f16 ? Dtype::f32 : meta.dtype, x);
  double squared = 0;
  for (const float value : x) squared += double{value} * double{value};
  return squared <= kMaxSquaredNorm && (squared > 0 || meta.metric != Metric::cosine);
}

// Sorted by internal id, which is among them.
int64_t external_of(std::span<const std::pair<uint32_t, int64_t>> pairs, uint32_t id) {
  return std::lower_bound(pairs.begin(), pairs.end(), std::pair(id, INT64_MIN))->second;
}

}  // namespace

QuerySearch::QuerySearch(const IndexParts& parts, const SearchParams& params,
                         const simd::Kernels& kernels)
    : parts_(parts),
      space_(parts, kernels),
      terrain_{{parts.graph.as<uint32_t>().data(), parts.meta.degree, parts.meta.count},
               {parts.codes.data(), space_.stride()},
               kernels.score_codes},
      is_fast_(parts.blocks.size() != 0),
      distance_(kernels.distance_of(parts.meta.metric, parts.meta.dtype)),
      vector_bytes_(parts.meta.dim * item_size(parts.meta.dtype)),
      k_(params.k),
      slack_(params.slack) {
  if (is_fast_) terrain_.blocks = quant::NeighbourBlocks(parts, kernels);
  const uint32_t width = params.width != 0 ? params.width : std::max(kDefaultWidth, k_);
  const uint32_t trial = trial_rerank(parts, k_);
  const uint32_t rerank =
      params.rerank != 0 ? std::max(params.rerank, k_) : std::max(default_rerank(k_, width), trial);
  window_ = at_most_count(width, parts.meta.count);
  rerank_ = at_most_count(rerank, parts.meta.count);
  capacity_ = std::max(window_, rerank_);
  kept_ = params.rerank != 0 ? rerank_ : std::max(default_rerank(k_, 0), trial);
}

simd::CodeQuery QuerySearch::encode(const void* query, QueryScratch& scratch,
                                    std::span<const float>* mapped) const {
  try {
    *mapped = space_.map_query(query, scratch.map);
    return quant::prepare(*mapped, space_.stride(), scratch.code.as<int8_t>().data());
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::invalid_argument || !is_usable(parts_.meta, query)) throw;
    throw Error::corrupt(
        "section projection: it maps a query beyond float32; the index is damaged, build or copy "
        "it again (or the query is longer than its vectors by many orders of magnitude)");
  }
}

void QuerySearch::start(const void* query, QueryScratch& scratch) const {
  scratch.query = query;
  std::span<const float> mapped;
  const simd::CodeQuery code = encode(query, scratch, &mapped);
  const float norm = quant::code_norm(mapped);
  scratch.bound = quant::ScoreBound(parts_.meta, norm);
  if (is_fast_) scratch.signs.prepare(mapped, parts_.meta.metric);
  EarlyEnd early;
  if (std::isfinite(slack_)) early = {k_, kept_, (1 + slack_) * (1 + slack_), norm};
  scratch.walk.start(terrain_, code, std::span(&parts_.meta.entry, 1), window_, capacity_,
                     scratch.greedy, early, is_fast_ ? &scratch.signs : nullptr);
  next_step(scratch);
}

bool QuerySearch::step(QueryScratch& scratch) const {
  switch (scratch.step) {
    case QueryScratch::Step::gather:
      scratch.walk.gather();
      scratch.step = QueryScratch::Step::score;
      return false;
    case QueryScratch::Step::score:
      scratch.walk.score();
      next_step(scratch);
      return false;
    case QueryScratch::Step::rank:
      rank(scratch);
      return true;
  }
  return true;
}

void QuerySearch::next_step(QueryScratch& scratch) const {
  if (scratch.walk.has_next()) {
    scratch.step = QueryScratch::Step::gather;
    return;
  }
  scratch.step = QueryScratch::Step::rank;
  const Pool& pool = scratch.greedy.pool;
  const size_t count = parts_.vectors.size() == 0 ? 0 : candidates(scratch);
  for (size_t i = 0; i < std::min(kLookAhead, count); ++i) prefetch_vector(pool.id(i));
}

void QuerySearch::prefetch_vector(uint32_t id) const {
  const std::byte* vector = parts_.vectors.data() + size_t{id} * vector_bytes_;
  for (size_t offset = 0; offset < vector_bytes_; offset += 64) {
    __builtin_prefetch(vector + offset);
  }
}

void QuerySearch::rank(QueryScratch& scratch) const {
  const Pool& pool = scratch.greedy.pool;
  const std::byte* vectors = parts_.vectors.data();
  const size_t count = candidates(scratch);
  NearestK& nearest = scratch.nearest;
  nearest.reset(k_);
  size_t i = 0;
  for (; i < count && scratch.bound.lower(pool.score(i)) <= nearest.worst(); ++i) {
    if (i + kLookAhead < count) prefetch_vector(pool.id(i + kLookAhead));
    const uint32_t id = pool.id(i);
    const float distance =
        distance_(scratch.query, vectors + size_t{id} * vector_bytes_, parts_.meta.dim);
    // Only a damaged file holds vectors that give NaN; such a point is no answer.
    if (!std::isnan(distance)) nearest.insert({distance, id});
  }
  scratch.ranked = static_cast<uint32_t>(i);
}

QueryStats QuerySearch::finish(QueryScratch& scratch, int64_t* ids, float* distances) const {
  const std::span<const ScoredId> results = scratch.nearest.sorted();
  const size_t found = results.size();
  for (size_t i = 0; i < found; ++i) {
    ids[i] = scratch.external.empty() ? external_id(results[i].id)
                                      : external_of(scratch.external, results[i].id);
    distances[i] = results[i].score;
  }
  std::fill(ids + found, ids + k_, int64_t{-1});
  std::fill(distances + found, distances + k_, std::numeric_limits<float>::infinity());
  QueryStats stats = scratch.walk.stats();
  stats.full_distances = scratch.ranked;
  return stats;
}

}  // namespace bigrain::search
