// SPDX-License-Identifier: Apache-2.0
// 4-bit scalar codes with one scale per vector.
//
// A record has the form that simd::ScoreCodes4Fn describes. A code u in 0..15 stands for 2u - 15,
// so
//   x ~ x' = scale * (2u - 15)     and     bias = |x'|^2
// for a centred and rotated x, and queries have 8 bits: distances are those of quant/scalar8.h.
//
// Codes and scale have the least squared error of all symmetric ones: the grid point nearest in
// direction (quant/grid_search.h) with the scale <g, x> / |g|^2. With the scale of the largest
// coordinate, as 8 bits have it, the error is 1.2 (d=100) to 1.5 (d=784) times as large, with a
// range of its own for each vector, as LVQ has it, 0.98 to 1.33 times. Scaling so that distances
// are unbiased, as RaBitQ does, finds as many neighbours (bench/LOG.md, "quant"), but a vector
// would not be at distance zero of its copy where both are codes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "bigrain/types.h"
#include "quant/grid_search.h"
#include "quant/scalar8.h"
#include "simd/kernels.h"

namespace bigrain::quant {

// Two codes per byte, none in the last 8 bytes; whole cache lines.
constexpr uint32_t code4_stride(uint32_t dim) { return (dim + 16 + 127) / 128 * 64; }

// Writes the code4_stride(x.size()) bytes of one record; `search` has 4 bits. Throws
// Error(invalid_argument) unless x is finite with a finite squared norm.
void encode4(std::span<const float> x, Metric metric, GridSearch& search, std::byte* record);

// x' of a record; constants_of(record, stride) has its constants.
void decode4(const std::byte* record, std::span<float> out);

// Prepares a vector to be compared with records: `buffer` is 64-byte aligned with
// 2 * code4_stride(x.size()) bytes. `offset` receives |q'|^2 of the query's code: for the metrics
// but inner product, score + offset is the squared distance of the codes.
simd::CodeQuery prepare4(std::span<const float> x, int8_t* buffer, float* offset);

// The same from a record: scores between stored points.
simd::CodeQuery prepare_record4(const std::byte* record, uint32_t dim, int8_t* buffer,
                                float* offset);

}  // namespace bigrain::quant
