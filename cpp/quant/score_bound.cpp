// SPDX-License-Identifier: Apache-2.0
#include "quant/score_bound.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "quant/code_space.h"
#include "quant/scalar8.h"
#include "util/buffer.h"

namespace bigrain::quant {

namespace {

// The share of pairs that may lie below the bound (bench/LOG.md).
constexpr double kQuantile = 0.002;
// Rows of fewer pairs than this say nothing about so small a share.
constexpr size_t kLeastPairs = 2'000;

// Distances this far below the median one are copies, or nearly: what codes say of them is an error
// of absolute size, and a ratio to it means nothing.
constexpr float kNearlyCopies = 0.01f;

struct Pair {
  float exact, estimate;
};

class PairSampler {
 public:
  PairSampler(const IndexParts& parts, const simd::Kernels& kernels)
      : parts_(parts),
        kernels_(kernels),
        space_(parts, kernels),
        distance_(kernels.distance_of(parts.meta.metric, parts.meta.dtype)),
        code_(space_.stride()),
        row_(parts.meta.dim) {}

  void ask(uint64_t asker, std::vector<Pair>& out) {
    const IndexMeta& meta = parts_.meta;
    const auto rows = parts_.graph.as<uint32_t>().subspan(asker * meta.degree, meta.degree);
    const auto end = std::find(rows.begin(), rows.end(), static_cast<uint32_t>(asker));
    const auto ids = rows.first(static_cast<size_t>(end - rows.begin()));
    const std::span<const float> mapped = space_.map_row(vector(asker), scratch_);
    const simd::CodeQuery query = prepare(mapped, space_.stride(), code_.as<int8_t>().data());
    scores_.resize(ids.size());
    kernels_.score_codes(query, parts_.codes.data(), space_.stride(), ids.data(), ids.size(),
                         scores_.data());
    const float norm = code_norm(mapped);
    const ScoreBound bound(meta, norm);
    const void* asked = as_query_vector(asker);
    for (size_t i = 0; i < ids.size(); ++i) {
      const float exact = distance_(asked, vector(ids[i]), meta.dim);
      const float estimate = bound.estimate(scores_[i]);
      if (std::isfinite(exact) && std::isfinite(estimate)) out.push_back({exact, estimate});
    }
  }

 private:
  const std::byte* vector(uint64_t i) const {
    return parts_.vectors.data() + i * parts_.meta.dim * item_size(parts_.meta.dtype);
  }
  // f16 vectors are asked with f32 queries.
  const void* as_query_vector(uint64_t i) {
    if (parts_.meta.dtype != Dtype::f16) return vector(i);
    load_vector(vector(i), Dtype::f16, row_);
    return row_.data();
  }

  const IndexParts& parts_;
  const simd::Kernels& kernels_;
  CodeSpace space_;
  simd::DistanceFn distance_;
  Buffer code_;
  std::vector<float> row_, scores_;
  MapScratch scratch_;
};

float quantile(std::vector<float>& values, double share) {
  const auto rank = static_cast<ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + rank, values.end());
  return values[static_cast<size_t>(rank)];
}

void fit_ratio(const std::vector<Pair>& pairs, IndexMeta& meta) {
  std::vector<float> exact, ratios;
  for (const Pair& pair : pairs) exact.push_back(pair.exact);
  const float least = quantile(exact, 0.5) * kNearlyCopies;
  for (const Pair& pair : pairs) {
    if (pair.exact > least && pair.estimate > 0) ratios.push_back(pair.exact / pair.estimate);
  }
  if (ratios.size() < kLeastPairs) return;
  meta.bound_ratio = std::clamp(quantile(ratios, kQuantile), 0.0f, kMaxBoundRatio);
  for (const Pair& pair : pairs) {
    if (pair.exact > least) continue;
    const float above = meta.bound_ratio * pair.estimate - pair.exact;
    meta.bound_offset = std::max(meta.bound_offset, above);
  }
}

}  // namespace

void fit_score_bound(IndexParts& parts, const simd::Kernels& kernels, Monitor& monitor) {
  parts.meta.bound_ratio = parts.meta.bound_offset = 0;
  if (parts.meta.metric == Metric::ip) return;
  const uint64_t askers = std::min(kBoundAskers, parts.meta.count);
  PairSampler sampler(parts, kernels);
  std::vector<Pair> pairs;
  for (uint64_t i = 0; i < askers; ++i) {
    monitor.check();
    sampler.ask(i * parts.meta.count / askers, pairs);
  }
  if (pairs.size() < kLeastPairs) return;
  fit_ratio(pairs, parts.meta);
}

ScoreBound::ScoreBound(const IndexMeta& meta, float squared_norm)
    : norm_(meta.metric == Metric::ip ? 0 : squared_norm),
      scale_(meta.metric == Metric::l2 ? 1.0f : 0.5f),
      ratio_(meta.bound_ratio),
      offset_(meta.bound_ratio == 0 ? std::numeric_limits<float>::infinity() : meta.bound_offset) {}

}  // namespace bigrain::quant
