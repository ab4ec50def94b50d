// SPDX-License-Identifier: Apache-2.0
// Register-tiled inner products (GemmTileFn): the inner loop of exact search, and, with products
// rounded before they are added, of trained rotations, which end in files.
//
// For each k one column slice of the packed panel is loaded and every row's a[k] is multiplied into
// it, so a tile of r rows and c registers does r * c fused multiply-adds for r + c loads; the tile
// is as large as the register file holds beside its operands. Rows are read where they lie, not
// packed: at most 8 streams, one per way of the smallest level-1 cache in use, so that rows a
// multiple of 4 KiB apart do not evict each other (14 x 32 loses up to 45 % there, 8 x 48 nothing;
// bench/LOG.md, "exact").
//
// Sums are cut into runs of kGemmRun terms that are added up at the end. Roundings then number
// about kGemmRun + dim / kGemmRun instead of dim, which is what the error bound of exact search is
// made of; the extra pass over the output costs nothing measurable.
//
// A vector trait V provides: F, kLanes, zero, set1, load, store, add, mul, fmadd(a, b, c) = a * b +
// c.
#pragma once

#include <cstddef>

namespace bigrain::simd {

inline constexpr size_t kGemmRun = 256;

// 32 registers hold 8 x 3 sums, 3 columns and a row's value; 16 hold 6 x 2, 2 and 1.
#if defined(__aarch64__)
template <class V>
inline constexpr bool kManyRegisters = true;
#else
template <class V>
inline constexpr bool kManyRegisters = V::kLanes == 16;
#endif
template <class V>
inline constexpr size_t kGemmVectors = kManyRegisters<V> ? 3 : 2;
template <class V>
inline constexpr size_t kGemmTileRows = kManyRegisters<V> ? 8 : 6;
template <class V>
inline constexpr size_t kGemmTileCols = kGemmVectors<V> * V::kLanes;

// What callers may size their output by.
inline constexpr size_t kGemmMaxTileRows = 8, kGemmMaxTileCols = 48;

// The terms [begin, end) of every sum, written to (`begin` == 0) or added to `out`.
template <class V, bool kFused>
inline __attribute__((always_inline)) typename V::F multiply_add(typename V::F a, typename V::F b,
                                                                 typename V::F c) {
  if constexpr (kFused) return V::fmadd(a, b, c);
  return V::add(V::mul(a, b), c);
}

template <class V, bool kFused>
inline __attribute__((always_inline)) void gemm_run(const float* const* row, size_t rows,
                                                    const float* packed_b, size_t begin, size_t end,
                                                    float* out, size_t out_stride) {
  typename V::F acc[kGemmTileRows<V>][kGemmVectors<V>];
#pragma GCC unroll 8
  for (size_t r = 0; r < kGemmTileRows<V>; ++r)
#pragma GCC unroll 4
    for (size_t v = 0; v < kGemmVectors<V>; ++v) acc[r][v] = V::zero();
  for (size_t k = begin; k < end; ++k) {
    typename V::F column[kGemmVectors<V>];
#pragma GCC unroll 4
    for (size_t v = 0; v < kGemmVectors<V>; ++v)
      column[v] = V::load(packed_b + k * kGemmTileCols<V> + v * V::kLanes);
#pragma GCC unroll 8
    for (size_t r = 0; r < kGemmTileRows<V>; ++r) {
      const typename V::F value = V::set1(row[r][k]);
#pragma GCC unroll 4
      for (size_t v = 0; v < kGemmVectors<V>; ++v)
        acc[r][v] = multiply_add<V, kFused>(value, column[v], acc[r][v]);
    }
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < kGemmTileRows<V>; ++r) {
    if (r >= rows) break;
#pragma GCC unroll 4
    for (size_t v = 0; v < kGemmVectors<V>; ++v) {
      float* to = out + r * out_stride + v * V::kLanes;
      V::store(to, begin == 0 ? acc[r][v] : V::add(V::load(to), acc[r][v]));
    }
  }
}

template <class V, bool kFused>
void gemm_tile(const float* a, size_t rows, const float* packed_b, size_t dim, float* out,
               size_t out_stride) {
  static_assert(kGemmTileRows<V> <= kGemmMaxTileRows && kGemmTileCols<V> <= kGemmMaxTileCols);
  const float* row[kGemmTileRows<V>];
  for (size_t r = 0; r < kGemmTileRows<V>; ++r) row[r] = a + (r < rows ? r : 0) * dim;
  for (size_t begin = 0; begin < dim; begin += kGemmRun) {
    const size_t end = dim - begin < kGemmRun ? dim : begin + kGemmRun;
    gemm_run<V, kFused>(row, rows, packed_b, begin, end, out, out_stride);
  }
}

}  // namespace bigrain::simd
