// SPDX-License-Identifier: Apache-2.0
// The last step of a scan (generic/fast_scan.h) on x86. As x86_finish.h: every ISA file gets a copy
// of its own.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace bigrain::simd {
namespace {

// A lane of `dirty` sums pairs of bytes as one 16-bit number modulo 2^16, and `odd` the upper byte
// of each pair: dirty - 256 odd is the lower byte's sum. Adds the 16 sums in order to out[0..16).
inline void add_pairs(__m128i dirty, __m128i odd, uint32_t* out) {
  const __m128i even = _mm_sub_epi16(dirty, _mm_slli_epi16(odd, 8));
  const __m128i first = _mm_unpacklo_epi16(even, odd), second = _mm_unpackhi_epi16(even, odd);
  const __m256i sums[2] = {_mm256_cvtepu16_epi32(first), _mm256_cvtepu16_epi32(second)};
  for (size_t i = 0; i < 2; ++i) {
    __m256i* const to = reinterpret_cast<__m256i*>(out + 8 * i);
    _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_loadu_si256(to), sums[i]));
  }
}

}  // namespace
}  // namespace bigrain::simd
