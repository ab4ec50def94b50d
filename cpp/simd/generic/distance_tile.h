// SPDX-License-Identifier: Apache-2.0
// Tiles of distances between 8-bit codes (DistanceTileFn): what a partitioned build is made of.
//
// As gemm.h, on bytes: each step loads four codes of every column of the panel and four codes of
// every row, repeated over a register, and adds four products to each sum. Where the multiplication
// of bytes has an instruction (VNNI, NEON's sdot) a step does four times a float step's products.
//
// A vector trait V provides, beside what score_codes.h asks of it: kTileRows, kTileVectors (the
// tile that the registers hold), kDotLanes, repeat_four(p) (p[0..4) in every lane, as a
// CodeOperand) and as_floats(acc, sum of the row). Acc and dot_four where Dot has no lanes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simd/kernels.h"

namespace bigrain::simd {

inline constexpr size_t kCodeTileMaxRows = 8, kCodeTileMaxCols = 32;

template <class V>
inline __attribute__((always_inline)) auto zero_lanes() {
  if constexpr (requires { &V::dot_four; }) {
    return V::zero_acc();
  } else {
    return V::zero_dot();
  }
}

template <class V, class Acc>
inline __attribute__((always_inline)) Acc add_four(Acc acc, const typename V::CodeOperand& row,
                                                   const std::byte* columns) {
  if constexpr (requires { &V::dot_four; }) {
    return V::dot_four(acc, row, columns);
  } else {
    return V::dot(acc, row, columns);
  }
}

template <class V>
void distance_tile(const TileRow* rows, size_t count, const CodePanel& panel, size_t depth,
                   float* out, size_t out_stride) {
  constexpr size_t kRows = V::kTileRows, kVectors = V::kTileVectors, kLanes = V::kDotLanes;
  static_assert(kRows <= kCodeTileMaxRows && kVectors * kLanes <= kCodeTileMaxCols);
  static_assert(kLanes == V::kLanes);
  const int8_t* code[kRows];
  for (size_t r = 0; r < kRows; ++r) code[r] = rows[r < count ? r : 0].code;
  decltype(zero_lanes<V>()) acc[kRows][kVectors];
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (size_t v = 0; v < kVectors; ++v) acc[r][v] = zero_lanes<V>();
  const std::byte* columns = panel.codes;
  for (size_t k = 0; k < depth; k += 4, columns += 4 * kVectors * kLanes) {
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      const typename V::CodeOperand row = V::repeat_four(code[r] + k);
#pragma GCC unroll 2
      for (size_t v = 0; v < kVectors; ++v)
        acc[r][v] = add_four<V>(acc[r][v], row, columns + 4 * v * kLanes);
    }
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
    if (r >= count) break;
#pragma GCC unroll 2
    for (size_t v = 0; v < kVectors; ++v) {
      const auto dots = V::as_floats(acc[r][v], rows[r].sum);
      const auto factors = V::mul(V::set1(rows[r].factor), V::load(panel.scales + v * kLanes));
      const auto biases = V::add(V::set1(rows[r].bias), V::load(panel.biases + v * kLanes));
      V::store(out + r * out_stride + v * kLanes, V::add(biases, V::mul(factors, dots)));
    }
  }
}

}  // namespace bigrain::simd
