// SPDX-License-Identifier: Apache-2.0
// The nearest of many centroids for a panel of points (NearestTileFn): the inner loop of k-means
// and of encoding.
//
// |x - c|^2 = |x|^2 + 2 (|c|^2 / 2 - <c, x>), and |x|^2 is one number per point, so the smallest
// |c|^2 / 2 - <c, x> decides. As in gemm.h a register tile takes rows x vectors sums, but points
// are the columns here: the minimum over centroids is then taken lane by lane, and scores never
// reach memory. What differs from exact search: products are rounded before they are added (no
// FMA), so that an assignment, and with it a codebook, is the same on every instruction set. Zen's
// multipliers and adders are separate, so there this costs nothing (bench/LOG.md, "pq").
//
// A vector trait V provides, besides what gemm.h needs: mul, Index (kLanes uint32), set1_index,
// keep_less(best, index, score, candidate) (both replaced where score < best) and store_index.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simd/gemm.h"

namespace bigrain::simd {

// 32 registers: 8 x 3 sums, 3 columns, a row's value and a product; 16: 4 x 2, 2, 1 and 1.
template <class V>
inline constexpr size_t kNearestRows = kManyRegisters<V> ? 8 : 4;
template <class V>
inline constexpr size_t kNearestVectors = kManyRegisters<V> ? 3 : 2;
template <class V>
inline constexpr size_t kNearestCols = kNearestVectors<V> * V::kLanes;

// What callers may size their arrays by.
inline constexpr size_t kNearestMaxRows = 8, kNearestMaxCols = 48;

// One group of centroids, the first of which is number `first`.
template <class V>
inline __attribute__((always_inline)) void nearest_group(const float* panel, const float* row,
                                                         const float* offsets, size_t dim,
                                                         size_t first, typename V::F* best,
                                                         typename V::Index* index) {
  constexpr size_t kRows = kNearestRows<V>, kVectors = kNearestVectors<V>;
  typename V::F acc[kRows][kVectors];
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) acc[r][v] = V::set1(offsets[r]);
  for (size_t k = 0; k < dim; ++k, row += kRows, panel += kNearestCols<V>) {
    typename V::F column[kVectors];
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) column[v] = V::load(panel + v * V::kLanes);
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      const typename V::F value = V::set1(row[r]);
#pragma GCC unroll 4
      for (size_t v = 0; v < kVectors; ++v) acc[r][v] = V::add(acc[r][v], V::mul(value, column[v]));
    }
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
    const typename V::Index candidate = V::set1_index(static_cast<uint32_t>(first + r));
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) V::keep_less(best[v], index[v], acc[r][v], candidate);
  }
}

template <class V>
void nearest_tile(const float* panel, const float* centroids, const float* offsets, size_t groups,
                  size_t dim, float* scores, uint32_t* ids) {
  constexpr size_t kRows = kNearestRows<V>, kVectors = kNearestVectors<V>;
  static_assert(kRows <= kNearestMaxRows && kNearestCols<V> <= kNearestMaxCols);
  typename V::F best[kVectors];
  typename V::Index index[kVectors];
  for (size_t v = 0; v < kVectors; ++v) {
    best[v] = V::set1(__builtin_inff());
    index[v] = V::set1_index(0);
  }
  for (size_t first = 0; first < groups * kRows; first += kRows)
    nearest_group<V>(panel, centroids + first * dim, offsets + first, dim, first, best, index);
  for (size_t v = 0; v < kVectors; ++v) {
    V::store(scores + v * V::kLanes, best[v]);
    V::store_index(ids + v * V::kLanes, index[v]);
  }
}

}  // namespace bigrain::simd
