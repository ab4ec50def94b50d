// SPDX-License-Identifier: Apache-2.0
// The float part of score_codes for four records at once, shared by the x86 traits. The same two
// products and one sum per record as in generic/score_codes.h, so the bits are the same.
#pragma once

#include <immintrin.h>

#include <cstddef>

namespace bigrain::simd {
namespace {

// `dots` has the four int32 sums; constants[j] points at the scale and bias of record j.
inline __m128 finish4(__m128i dots, float factor, const std::byte* const (&constants)[4]) {
  const auto pair = [&](size_t low, size_t high) {
    const __m128i one = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(constants[low]));
    return _mm_loadh_pi(_mm_castsi128_ps(one), reinterpret_cast<const __m64*>(constants[high]));
  };
  const __m128 first = pair(0, 1), second = pair(2, 3);
  const __m128 scales = _mm_shuffle_ps(first, second, 0x88);
  const __m128 biases = _mm_shuffle_ps(first, second, 0xdd);
  return _mm_add_ps(biases,
                    _mm_mul_ps(_mm_mul_ps(_mm_set1_ps(factor), scales), _mm_cvtepi32_ps(dots)));
}

// Sums over nibbles u as sums over 2 u - 15; int32 fits for every dim <= kMaxDim.
inline __m128i nibble_dots(__m128i dots, int32_t query_sum) {
  return _mm_sub_epi32(_mm_slli_epi32(dots, 1), _mm_set1_epi32(15 * query_sum));
}

}  // namespace
}  // namespace bigrain::simd
