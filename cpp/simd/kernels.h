// SPDX-License-Identifier: Apache-2.0
// The dispatch table: one struct of function pointers per instruction set, chosen once per call
// into the engine and handed down. Nothing below a search asks again what the machine can do.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bigrain/types.h"

namespace bigrain::simd {

// Ordered by preference on one architecture.
enum class Isa : uint8_t { scalar = 0, avx2 = 1, avx512 = 2, neon = 3 };

// Exact distance of two vectors (Metric's conventions: smaller is closer). `query` has the stored
// type's own element type, except that f16 data is asked with an f32 query.
// Integer kernels are exact up to the last conversion to float for every d <= kMaxDim.
using DistanceFn = float (*)(const void* query, const void* vector, size_t dim);

// An 8-bit code record is `stride` bytes (a multiple of 64), 64-byte aligned: codes in
// [-127, 127], zeros, and in its last 8 bytes two float32: scale, bias (quant/scalar8.h).
// A prepared query has the same length with zeros wherever no code stands, so that kernels run over
// whole records without a tail: the constants meet zeros.
struct CodeQuery {
  const int8_t*
      code;      // stride bytes (4-bit codes: twice that), 64-byte aligned, zero past the codes
  int32_t sum;   // sum of all of `code`
  float factor;  // see ScoreCodesFn
};

// out[i] = bias(id_i) + factor * scale(id_i) * <query.code, code(id_i)>, dot in exact int32; the
// float part is computed as fma-free (bias + (factor * scale) * float(dot)), so that every
// instruction set gives the same bits. Prefetches ahead within `ids`.
using ScoreCodesFn = void (*)(const CodeQuery& query, const std::byte* records, size_t stride,
                              const uint32_t* ids, size_t count, float* out);

// The same for 4-bit codes. A record is `stride` bytes (a multiple of 64), 64-byte aligned: byte i
// of its line l holds codes 128 l + i (low nibble) and 128 l + 64 + i (high nibble), and its last 8
// bytes are scale and bias instead. A nibble u in 0..15 stands for u - 7.5 and counts twice, 2u -
// 15, so that the dot stays an integer (quant/scalar4.h). The query has 2 * stride bytes in the
// order of the codes, with zeros where the 16 nibbles of the constants, or no codes, lie. out[i] =
// bias(id_i) + (factor * scale(id_i)) * float(sum_j code[j] * (2 u_j(id_i) - 15)).
using ScoreCodes4Fn = ScoreCodesFn;

// In place: x <- H x / sqrt(size), the Walsh-Hadamard transform; size is a power of two.
using HadamardFn = void (*)(float* x, size_t size);

// Register-tiled inner products for exact search:
// out[r * out_stride + c] = sum_k a[r * dim + k] * packed_b[k * tile_cols + c]
// for r < rows (rows <= tile_rows), c < tile_cols. gemm_tile uses fused multiply-adds, so its bits
// differ among instruction sets; gemm_tile_rounded rounds every product, and its bits do not.
using GemmTileFn = void (*)(const float* a, size_t rows, const float* packed_b, size_t dim,
                            float* out, size_t out_stride);

// One block of 32 codes of `subs` 4-bit sub-codes: out[j] = sum_m lut[16 m + code_m(j)], j < 32,
// exact for every subs >= 1. codes[16 m + j], j < 16, holds code_m(j) in its low and code_m(j + 16)
// in its high four bits. `lut` and `codes` are best 16-byte aligned; `out` may be anywhere.
using FastScanFn = void (*)(const uint8_t* lut, const uint8_t* codes, size_t subs, uint32_t* out);

// Which of `count` (16 or 32) sums pass: bit j where
// offset_j - factor_j * (step * float(sums[j]) + base) <= most, never where a term is NaN. `halves`
// has `count` float16 offsets, then as many factors. The same bits on every instruction set.
struct GateTerms {
  float step, base, most;
};
using GateFn = uint32_t (*)(const uint32_t* sums, const uint16_t* halves, size_t count,
                            const GateTerms& terms);

// A tile of distances between stored codes, for every pair of up to tile_rows rows and the
// tile_cols columns of a panel:
// out[r * out_stride + c] = (bias_r + bias_c) + (factor_r * scale_c) * <code_r, code_c>,
// the dot in exact int32 and the float part in this order, so that the distance of a pair does not
// depend on which of the two is the row, and every instruction set gives the same bits.
struct TileRow {
  const int8_t* code;  // `depth` bytes are read
  int32_t sum;         // of them
  float factor;        // -2 * scale
  float bias;
};
struct CodePanel {
  const std::byte* codes;  // [depth / 4][tile_cols][4]; depth is a multiple of 4
  const float* scales;     // tile_cols of each
  const float* biases;
};
using DistanceTileFn = void (*)(const TileRow* rows, size_t count, const CodePanel& panel,
                                size_t depth, float* out, size_t out_stride);

// The k smallest finite values and their positions, in order, equal ones by position; returns how
// many there are. `count` is a multiple of kSmallestMax, 1 <= k <= kSmallestMax; NaN is not
// allowed.
inline constexpr size_t kSmallestMax = 32;
using SmallestFn = size_t (*)(const float* values, size_t count, size_t k, float* kept,
                              uint32_t* positions);

// For each of the nearest_cols points of a panel (panel[k * nearest_cols + c]) the centroid of
// smallest score = offset[j] + sum_k centroid_j[k] * point[k], ties by the smaller j; both arrays
// of results have nearest_cols entries. Centroids lie in groups of nearest_rows, k-major:
// centroids[(g * dim + k) * nearest_rows + r] is coordinate k of centroid g * nearest_rows + r;
// the last group is filled up with centroids whose offset is +infinity. Sums run over k in order,
// each product rounded, from the offset on, so every instruction set gives the same bits.
using NearestTileFn = void (*)(const float* panel, const float* centroids, const float* offsets,
                               size_t groups, size_t dim, float* scores, uint32_t* ids);

struct Kernels {
  Isa isa;
  const char* name;  // as BIGRAIN_SIMD spells it
  DistanceFn distance[kMetricCount][kDtypeCount];
  ScoreCodesFn score_codes;
  ScoreCodes4Fn score_codes4;
  HadamardFn hadamard;
  GemmTileFn gemm_tile, gemm_tile_rounded;
  size_t gemm_tile_rows, gemm_tile_cols;
  FastScanFn fast_scan;
  GateFn gate;
  DistanceTileFn distance_tile;
  size_t code_tile_rows, code_tile_cols;
  SmallestFn smallest;
  NearestTileFn nearest_tile;
  size_t nearest_rows, nearest_cols;

  DistanceFn distance_of(Metric metric, Dtype dtype) const {
    return distance[static_cast<size_t>(metric)][static_cast<size_t>(dtype)];
  }
};

// The best table for this machine, or the one that the environment variable BIGRAIN_SIMD names
// (scalar, avx2, avx512, neon; read once). Throws Error(invalid_argument) where the variable names
// an unknown or unsupported one, with the list of what this machine supports.
const Kernels& active_kernels();

// The table of one instruction set, or nullptr where it is not compiled in or the machine (or its
// operating system) lacks it. For tests and benchmarks.
const Kernels* kernels_for(Isa isa);

}  // namespace bigrain::simd
