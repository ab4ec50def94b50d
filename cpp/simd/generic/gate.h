// SPDX-License-Identifier: Apache-2.0
// Which estimates of a scan pass (GateFn). Halves become floats exactly, products are rounded, so
// every instruction set gives the same bits.
//
// A vector trait V provides: F, kLanes (a divisor of 16), set1, add, sub, mul, load(const Half*),
// load_counts (unsigned integers below 2^31 as floats) and bits_within (false for a NaN).
#pragma once

#include <cstddef>
#include <cstdint>

#include "simd/generic/half.h"
#include "simd/kernels.h"

namespace bigrain::simd {

template <class V>
uint32_t gate(const uint32_t* sums, const uint16_t* factors, size_t count, const GateTerms& terms) {
  using F = typename V::F;
  static_assert(16 % V::kLanes == 0);
  const Half* const offset = reinterpret_cast<const Half*>(factors);
  const F step = V::set1(terms.step), base = V::set1(terms.base), most = V::set1(terms.most);
  uint32_t bits = 0;
  for (size_t j = 0; j < count; j += V::kLanes) {
    const F dot = V::add(V::mul(step, V::load_counts(sums + j)), base);
    const F estimate = V::sub(V::load(offset + j), V::mul(V::load(offset + count + j), dot));
    bits |= V::bits_within(estimate, most) << j;
  }
  return bits;
}

}  // namespace bigrain::simd
