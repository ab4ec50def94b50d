// SPDX-License-Identifier: Apache-2.0
#include "search/exact_gram.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "simd/gemm.h"
#include "simd/generic/distance_float.h"

namespace bigrain::exact {

namespace {

// Panels of a chunk are read once per tile of queries: from a level-2 cache, of which current
// server cores have at least 512 KiB.
constexpr size_t kChunkBytes = size_t{256} << 10;
// Scores per chunk, so that a chunk takes well under 0.1 s also where dim is small.
constexpr size_t kChunkScores = size_t{1} << 24;

// Is any value at most `cut`, or not a number? Without a branch, so that compilers vectorise it.
bool any_within(const float* values, size_t count, float cut) {
  int found = 0;
  for (size_t i = 0; i < count; ++i) found |= !(values[i] > cut);
  return found != 0;
}

}  // namespace

// Roundings (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1: a sum of
// products in which no term passes through more than n roundings is off by at most
// n u / (1 - n u) times the sum of the terms' magnitudes; u = 2^-24):
// - a score: terms pass through at most one run and the sum of the runs;
// - a distance: the kernels spread terms over kSums sums and fold those (5 additions), after at
//   most 3 roundings of a term. For cosine three such sums meet, of which two under a root;
// - centring, scaling, and the arithmetic on bounds themselves: a few roundings each, 16 in all.
// 2 % cover the denominator and second-order terms for every dim <= kMaxDim.
ErrorBound::ErrorBound(const Job& job) : metric_(job.metric) {
  const double dim = static_cast<double>(job.base.dim), depth = static_cast<double>(depth_of(job));
  const double run = static_cast<double>(simd::kGemmRun);
  const double score = std::min(depth, run) + std::ceil(depth / run) + 1;
  const double distance = std::ceil(dim / static_cast<double>(simd::kSums)) + 5 + 3;
  const double sums = metric_ == Metric::cosine ? 2 : 1;
  relative_ = 1.02 * 0x1p-24 * (score + sums * distance + 16);
  // Products that fall below the normal range, even where they are flushed to zero.
  absolute_ = 4 * depth * static_cast<double>(std::numeric_limits<float>::min());
}

float ErrorBound::of(double query_norm, const NormRange& rows) const {
  // Squares must neither overflow a float nor, where they are divided by, lose digits to underflow.
  constexpr double kLargest = 0x1p60, kSmallest = 0x1p-40;
  const double sum = query_norm + rows.high;
  if (!(sum < kLargest)) return std::numeric_limits<float>::infinity();
  switch (metric_) {
    case Metric::l2:
      return static_cast<float>(relative_ * sum * sum + absolute_);
    case Metric::ip:
      return static_cast<float>(relative_ * query_norm * rows.high + absolute_);
    case Metric::cosine:
      break;
  }
  if (std::min(query_norm, rows.low) < kSmallest) return std::numeric_limits<float>::infinity();
  return static_cast<float>(relative_ + absolute_);
}

GramScan::GramScan(const Job& job, const std::vector<float>& centre, size_t begin, size_t end)
    : job_(job), centre_(centre), queries_(job, centre, begin, end), bound_(job) {
  const size_t columns = job.kernels.gemm_tile_cols;
  const size_t panel_bytes = columns * queries_.depth * sizeof(float);
  const size_t for_cache = std::max<size_t>(kChunkBytes / panel_bytes, 1);
  // Enough chunks that no thread waits long for the last one.
  const size_t panels = (job.base.rows + columns - 1) / columns;
  const size_t for_balance = std::max<size_t>(panels / (size_t{4} * job.threads), 1);
  const size_t for_pace = std::max<size_t>(kChunkScores / ((end - begin) * columns), 1);
  chunk_rows_ = std::min({for_cache, for_balance, for_pace}) * columns;
}

void GramScan::scan(size_t begin, size_t end, Buffer& panels,
                    std::vector<CandidateSet>& sets) const {
  const size_t needed = chunk_rows_ * queries_.depth * sizeof(float);
  if (panels.size() < needed) panels = Buffer(needed);
  const NormRange norms = pack_base(job_, centre_, begin, end, panels.as<float>());
  const size_t tile_rows = job_.kernels.gemm_tile_rows;
  for (size_t query = 0; query < sets.size(); query += tile_rows) {
    if (job_.monitor.stopped()) return;
    const size_t rows = std::min(tile_rows, sets.size() - query);
    scan_tile(query, rows, begin, end, panels.as<float>().data(), norms, sets.data() + query);
  }
}

void GramScan::scan_tile(size_t query, size_t rows, size_t begin, size_t end, const float* panels,
                         const NormRange& norms, CandidateSet* sets) const {
  const size_t columns = job_.kernels.gemm_tile_cols;
  alignas(64) std::array<float, simd::kGemmMaxTileRows * simd::kGemmMaxTileCols> scores;
  std::array<float, simd::kGemmMaxTileRows> bounds, cuts;
  for (size_t r = 0; r < rows; ++r) {
    bounds[r] = bound_.of(queries_.norms[query + r], norms);
    cuts[r] = sets[r].limit() + bounds[r];
  }
  for (; begin < end; begin += columns, panels += columns * queries_.depth) {
    job_.kernels.gemm_tile(queries_.row(query), rows, panels, queries_.depth, scores.data(),
                           columns);
    const size_t count = std::min(columns, end - begin);
    for (size_t r = 0; r < rows; ++r) {
      const float* row = scores.data() + r * columns;
      if (!any_within(row, columns, cuts[r])) continue;
      for (size_t c = 0; c < count; ++c) {
        if (row[c] > cuts[r]) continue;
        // An unbounded score says nothing, and may be NaN.
        sets[r].add(std::isinf(bounds[r]) ? 0.0f : row[c], bounds[r], begin + c);
        cuts[r] = sets[r].limit() + bounds[r];
      }
    }
  }
}

}  // namespace bigrain::exact
