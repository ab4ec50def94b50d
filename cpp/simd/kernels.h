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
  const int8_t* code;  // stride bytes, 64-byte aligned, zero past the codes
  int32_t sum;         // sum of code[0..stride)
  float factor;        // see ScoreCodesFn
};

// out[i] = bias(id_i) + factor * scale(id_i) * <query.code, code(id_i)>, dot in exact int32; the
// float part is computed as fma-free (bias + (factor * scale) * float(dot)), so that every
// instruction set gives the same bits. Prefetches ahead within `ids`.
using ScoreCodesFn = void (*)(const CodeQuery& query, const std::byte* records, size_t stride,
                              const uint32_t* ids, size_t count, float* out);

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
  HadamardFn hadamard;
  GemmTileFn gemm_tile, gemm_tile_rounded;
  size_t gemm_tile_rows, gemm_tile_cols;
  FastScanFn fast_scan;
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
