// SPDX-License-Identifier: Apache-2.0
// A query as tables of 4-bit look-ups: its inner product with any vector of signs.
//
// Source: fast_scan (simd/generic/fast_scan.h) with RaBitQ's tables (Gao and Long, SIGMOD 2024):
// four dimensions are one sub-code, and a table entry is the sum of the four coordinates whose bits
// are set. Differs: magnitudes, not coordinates, are rounded to integers, and a bit counts where it
// agrees with the coordinate's sign; entries are then sums of non-negative integers, exact in a
// byte, and built from four masks without a multiplication.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bigrain/types.h"

namespace bigrain::quant {

inline constexpr size_t kSubDims = 4;  // dimensions of one 4-bit sub-code

struct SignQuery {
  // `x`: a mapped query (quant/code_space.h). Memory is reused.
  void prepare(std::span<const float> x, Metric metric);

  // <signs, x> for signs whose table entries add up to `sum`.
  float dot(uint32_t sum) const { return step * static_cast<float>(sum) + least; }

  std::vector<uint8_t> table;  // 16 entries per sub-code
  float step = 0, least = 0;
  float squared_norm = 0;
  bool centred = true;  // scores are squared distances, less the query's squared norm
};

}  // namespace bigrain::quant
