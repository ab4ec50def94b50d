// SPDX-License-Identifier: Apache-2.0
// The AVX-512 trait (F, BW, VL, DQ). Included by two files: avx512vnni.cpp is compiled with VNNI.
#pragma once

// GCC before 13 takes the undefined operands of its own AVX-512 intrinsics for a mistake (PR
// 105593); it warns where they are inlined, so the rest of the file is meant too.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>

#include "simd/generic/table.h"
#include "simd/x86_finish.h"
#include "simd/x86_scan.h"

namespace bigrain::simd {
namespace {

struct Avx512 {
  using F = __m512;
  static constexpr size_t kLanes = 16;

  static F zero() { return _mm512_setzero_ps(); }
  static F set1(float value) { return _mm512_set1_ps(value); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F fmadd(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static F load_part(const float* p, size_t n) { return _mm512_maskz_loadu_ps(first16(n), p); }
  static void store(float* p, F value) { _mm512_storeu_ps(p, value); }
  static float fold(F x) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }

  static F min(F a, F b) { return _mm512_min_ps(a, b); }
  static uint32_t bits_within(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }

  static F load_counts(const uint32_t* p) { return _mm512_cvtepi32_ps(_mm512_loadu_si512(p)); }

  static F load(const Half* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static F load_part(const Half* p, size_t n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first16(n), p));
  }

  template <size_t h>
  static F butterfly(F x) {
    F partner;
    __mmask16 upper;  // the lanes whose bit h is set: partner - x, the others partner + x
    if constexpr (h == 1) {
      partner = _mm512_permute_ps(x, 0xb1);
      upper = 0xaaaa;
    } else if constexpr (h == 2) {
      partner = _mm512_permute_ps(x, 0x4e);
      upper = 0xcccc;
    } else if constexpr (h == 4) {
      partner = _mm512_shuffle_f32x4(x, x, 0xb1);
      upper = 0xf0f0;
    } else {
      partner = _mm512_shuffle_f32x4(x, x, 0x4e);
      upper = 0xff00;
    }
    return _mm512_mask_sub_ps(_mm512_add_ps(partner, x), upper, partner, x);
  }

  static constexpr size_t kWideLanes = 32;
  using Wide = __m512i;
  using Acc = __m512i;
  static Acc zero_acc() { return _mm512_setzero_si512(); }
  static Wide widen(const int8_t* p) { return _mm512_cvtepi8_epi16(load_32(p)); }
  static Wide widen(const uint8_t* p) { return _mm512_cvtepu8_epi16(load_32(p)); }
  static Wide widen_part(const int8_t* p, size_t n) {
    return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(first32(n), p));
  }
  static Wide widen_part(const uint8_t* p, size_t n) {
    return _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(first32(n), p));
  }
  static Wide sub16(Wide a, Wide b) { return _mm512_sub_epi16(a, b); }
  static Acc add_products(Acc acc, Wide a, Wide b) {
    return _mm512_add_epi32(acc, _mm512_madd_epi16(a, b));
  }
  static int64_t sum(Acc acc) {
    return _mm512_reduce_add_epi64(
        _mm512_add_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(acc)),
                         _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(acc, 1))));
  }

  static constexpr size_t kCodeBytes = 64;
  using Dot = __m512i;
  static Dot zero_dot() { return _mm512_setzero_si512(); }
#ifdef __AVX512VNNI__
  // vpdpbusd multiplies unsigned by signed bytes: x + 128 by q; 128 times the sum of q comes off at
  // the end. int32 wraps modulo 2^32 and the result fits, so it is exact.
  using CodeOperand = __m512i;
  static CodeOperand code_operand(const int8_t* query) { return _mm512_load_si512(query); }
  static Dot dot(Dot acc, CodeOperand query, const std::byte* record) {
    const __m512i code =
        _mm512_xor_si512(_mm512_load_si512(record), _mm512_set1_epi8(static_cast<char>(0x80)));
    return _mm512_dpbusd_epi32(acc, code, query);
  }
  static int32_t excess(int32_t query_sum) { return 128 * query_sum; }
#else
  // As in avx2.cpp: |q| by x with the sign of q.
  struct CodeOperand {
    __m512i magnitude;
    __mmask64 negative;
  };
  static CodeOperand code_operand(const int8_t* query) {
    const __m512i chunk = _mm512_load_si512(query);
    return {_mm512_abs_epi8(chunk), _mm512_movepi8_mask(chunk)};
  }
  static Dot dot(Dot acc, const CodeOperand& operand, const std::byte* record) {
    const __m512i code = _mm512_load_si512(record);
    const __m512i turned =
        _mm512_mask_sub_epi8(code, operand.negative, _mm512_setzero_si512(), code);
    const __m512i pairs = _mm512_maddubs_epi16(operand.magnitude, turned);
    return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
  }
  static int32_t excess(int32_t) { return 0; }
#endif
  static void finish(const Dot (&acc)[kGroup], const CodeQuery& query,
                     const std::byte* const (&constants)[kGroup], float* out) {
    const __m128i exact = _mm_sub_epi32(sums(acc), _mm_set1_epi32(excess(query.sum)));
    _mm_storeu_ps(out, finish4(exact, query.factor, constants));
  }

  struct NibbleOperand {
    __m512i low, high;
  };
  static NibbleOperand nibble_operand(const int8_t* query) {
    return {_mm512_load_si512(query), _mm512_load_si512(query + 64)};
  }
  static Dot dot_nibbles(Dot acc, const NibbleOperand& operand, const std::byte* record) {
    const __m512i both = _mm512_load_si512(record);
    const __m512i mask = _mm512_set1_epi8(15);
    const __m512i low = _mm512_and_si512(both, mask);
    const __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), mask);
#ifdef __AVX512VNNI__
    return _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(acc, low, operand.low), high, operand.high);
#else
    // A pair of products is at most 2 * 15 * 127 = 3,810: two of them fit 16 bits.
    const __m512i pairs = _mm512_add_epi16(_mm512_maddubs_epi16(low, operand.low),
                                           _mm512_maddubs_epi16(high, operand.high));
    return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
#endif
  }
  static void finish_nibbles(const Dot (&acc)[kGroup], const CodeQuery& query,
                             const std::byte* const (&constants)[kGroup], float* out) {
    _mm_storeu_ps(out, finish4(nibble_dots(sums(acc), query.sum), query.factor, constants));
  }

  using Index = __m512i;
  static Index set1_index(uint32_t value) { return _mm512_set1_epi32(static_cast<int>(value)); }
  static void keep_less(F& best, Index& index, F score, Index candidate) {
    const __mmask16 less = _mm512_cmp_ps_mask(score, best, _CMP_LT_OQ);
    best = _mm512_mask_mov_ps(best, less, score);
    index = _mm512_mask_mov_epi32(index, less, candidate);
  }
  static void store_index(uint32_t* p, Index value) { _mm512_storeu_si512(p, value); }

  static constexpr size_t kScanSubs = 4;
  struct ScanSums {
    __m512i low_dirty, low_odd, high_dirty, high_odd;  // see x86_scan.h; a lane per sub-code
  };
  static void scan(ScanSums& sums, const uint8_t* lut, const uint8_t* codes) {
    scan_lanes(sums, _mm512_loadu_si512(lut), _mm512_loadu_si512(codes));
  }
  // A table of zeros adds nothing.
  static void scan_part(ScanSums& sums, const uint8_t* lut, const uint8_t* codes, size_t subs) {
    const __mmask64 present = (uint64_t{1} << (kScanBytes * subs)) - 1;
    scan_lanes(sums, _mm512_maskz_loadu_epi8(present, lut),
               _mm512_maskz_loadu_epi8(present, codes));
  }
  static void add_sums(const ScanSums& sums, uint32_t* out) {
    add_pairs(lanes(sums.low_dirty), lanes(sums.low_odd), out);
    add_pairs(lanes(sums.high_dirty), lanes(sums.high_odd), out + kScanBytes);
  }

  static constexpr size_t kTileRows = 8, kTileVectors = 2;
  static constexpr size_t kDotLanes = 16;
  static CodeOperand repeat_four(const int8_t* four) {
    int32_t value;
    __builtin_memcpy(&value, four, sizeof value);
    const __m512i chunk = _mm512_set1_epi32(value);
#ifdef __AVX512VNNI__
    return chunk;
#else
    return {_mm512_abs_epi8(chunk), _mm512_movepi8_mask(chunk)};
#endif
  }
  static F as_floats(Dot dots, int32_t query_sum) {
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(dots, _mm512_set1_epi32(excess(query_sum))));
  }

 private:
  static void scan_lanes(ScanSums& sums, __m512i lut, __m512i codes) {
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i low = _mm512_shuffle_epi8(lut, _mm512_and_si512(codes, nibble));
    const __m512i high =
        _mm512_shuffle_epi8(lut, _mm512_and_si512(_mm512_srli_epi16(codes, 4), nibble));
    sums.low_dirty = _mm512_add_epi16(sums.low_dirty, low);
    sums.low_odd = _mm512_add_epi16(sums.low_odd, _mm512_srli_epi16(low, 8));
    sums.high_dirty = _mm512_add_epi16(sums.high_dirty, high);
    sums.high_odd = _mm512_add_epi16(sums.high_odd, _mm512_srli_epi16(high, 8));
  }
  static __m128i lanes(__m512i x) {
    const __m256i two =
        _mm256_add_epi16(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    return _mm_add_epi16(_mm256_castsi256_si128(two), _mm256_extracti128_si256(two, 1));
  }
  static __m128i sums(const Dot (&acc)[kGroup]) {
    const __m256i lanes = _mm256_hadd_epi32(_mm256_hadd_epi32(half(acc[0]), half(acc[1])),
                                            _mm256_hadd_epi32(half(acc[2]), half(acc[3])));
    return _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
  }
  static __mmask16 first16(size_t n) { return static_cast<__mmask16>((1u << n) - 1); }
  static __mmask32 first32(size_t n) { return static_cast<__mmask32>((uint64_t{1} << n) - 1); }
  static __m256i load_32(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  }
  static __m256i half(__m512i x) {
    return _mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
  }
};

}  // namespace
}  // namespace bigrain::simd
