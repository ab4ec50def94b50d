// SPDX-License-Identifier: Apache-2.0
// 8-bit scalar codes with one scale per vector.
//
// A record is [dim int8 codes in -127..127][zeros][float32 scale][float32 bias], where
//   x ~ x' = scale * code     and     bias = |x'|^2
// for a centred and rotated x. With a query q ~ q' = s * c the squared distance is
//   |x' - q'|^2 - |q'|^2 = bias - 2 s scale <c, code>,
// so search and build need integer inner products only. The bias is the norm of the code rather
// than of the vector: the error is then 2 <x' - x, x - q>, which vanishes where it matters, near
// the query, and copies are at distance zero. Under inner product the bias is 0, so that a score is
// -2 <x', q'>. It differs from LVQ (SVS) in that the range is symmetric: after the rotation both
// ends are alike, and no per-vector offset is stored. The largest code error is scale / 2 =
// max|x_i| / 254.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "simd/kernels.h"

namespace bigrain::quant {

struct CodeConstants {
  float scale;
  float bias;
};
static_assert(sizeof(CodeConstants) == 8);

// In a fixed order: every instruction set gives the same bits.
float code_norm(std::span<const float> x);

// Codes of x in [-127, 127] and their constants; `codes` has room for x.size(). Throws
// Error(invalid_argument) unless x is finite with a finite squared norm.
CodeConstants quantize(std::span<const float> x, int8_t* codes);

// A prepared query of `stride` bytes of codes in the order of the records, zeros where they have
// none.
simd::CodeQuery as_query(const int8_t* codes, size_t stride, float scale);

// Writes the `stride` bytes of one record. Throws Error(invalid_argument) unless x is finite with a
// finite squared norm.
void encode(std::span<const float> x, Metric metric, size_t stride, std::byte* record);

CodeConstants constants_of(const std::byte* record, size_t stride);

// Prepares a vector to be compared with records: `buffer` is 64-byte aligned with `stride` bytes.
simd::CodeQuery prepare(std::span<const float> x, size_t stride, int8_t* buffer);

// The same from a record: scores between stored points. `offset` receives its bias: for the metrics
// but inner product, score + offset is the squared distance.
simd::CodeQuery prepare_record(const std::byte* record, size_t stride, int8_t* buffer,
                               float* offset);

}  // namespace bigrain::quant
