// SPDX-License-Identifier: Apache-2.0
// AVX2 with FMA and F16C: every x86 core since Haswell (2013) and Zen (2017).
#include <immintrin.h>

#include "simd/generic/partial_load.h"
#include "simd/generic/table.h"
#include "simd/tables.h"
#include "simd/x86_finish.h"
#include "simd/x86_scan.h"

namespace bigrain::simd {
namespace {

struct Avx2 {
  using F = __m256;
  static constexpr size_t kLanes = 8;

  static F zero() { return _mm256_setzero_ps(); }
  static F set1(float value) { return _mm256_set1_ps(value); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F fmadd(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static F load_part(const float* p, size_t n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane));
  }
  static void store(float* p, F value) { _mm256_storeu_ps(p, value); }
  static float fold(F x) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }

  static F min(F a, F b) { return _mm256_min_ps(a, b); }
  static uint32_t bits_within(F a, F b) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LE_OQ)));
  }

  static F load_counts(const uint32_t* p) { return _mm256_cvtepi32_ps(load_32(p)); }

  static F load(const Half* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static F load_part(const Half* p, size_t n) {
    return _mm256_cvtph_ps(load_bytes(p, n * sizeof(Half)));
  }

  template <size_t h>
  static F butterfly(F x) {
    F partner, signs;  // x with the sign of every lane whose bit h is set turned
    if constexpr (h == 1) {
      partner = _mm256_permute_ps(x, 0xb1);
      signs = _mm256_setr_ps(0.f, -0.f, 0.f, -0.f, 0.f, -0.f, 0.f, -0.f);
    } else if constexpr (h == 2) {
      partner = _mm256_permute_ps(x, 0x4e);
      signs = _mm256_setr_ps(0.f, 0.f, -0.f, -0.f, 0.f, 0.f, -0.f, -0.f);
    } else {
      partner = _mm256_permute2f128_ps(x, x, 0x01);
      signs = _mm256_setr_ps(0.f, 0.f, 0.f, 0.f, -0.f, -0.f, -0.f, -0.f);
    }
    return _mm256_add_ps(partner, _mm256_xor_ps(x, signs));
  }

  static constexpr size_t kWideLanes = 16;
  using Wide = __m256i;
  using Acc = __m256i;
  static Acc zero_acc() { return _mm256_setzero_si256(); }
  static Wide widen(const int8_t* p) { return _mm256_cvtepi8_epi16(load_16(p)); }
  static Wide widen(const uint8_t* p) { return _mm256_cvtepu8_epi16(load_16(p)); }
  static Wide widen_part(const int8_t* p, size_t n) {
    return _mm256_cvtepi8_epi16(load_bytes(p, n));
  }
  static Wide widen_part(const uint8_t* p, size_t n) {
    return _mm256_cvtepu8_epi16(load_bytes(p, n));
  }
  static Wide sub16(Wide a, Wide b) { return _mm256_sub_epi16(a, b); }
  static Acc add_products(Acc acc, Wide a, Wide b) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(a, b));
  }
  static int64_t sum(Acc acc) {
    const __m256i eight = _mm256_add_epi64(_mm256_cvtepi32_epi64(_mm256_castsi256_si128(acc)),
                                           _mm256_cvtepi32_epi64(_mm256_extracti128_si256(acc, 1)));
    const __m128i two =
        _mm_add_epi64(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    return _mm_cvtsi128_si64(_mm_add_epi64(two, _mm_unpackhi_epi64(two, two)));
  }

  // vpmaddubsw multiplies unsigned by signed bytes: |q| by x with the sign of q. Both lie in
  // [-127, 127], so a pair is at most 2 * 127^2 = 32,258 and does not saturate.
  static constexpr size_t kCodeBytes = 32;
  struct CodeOperand {
    __m256i query, magnitude;
  };
  using Dot = __m256i;
  static CodeOperand code_operand(const int8_t* query) {
    const __m256i chunk = _mm256_load_si256(reinterpret_cast<const __m256i*>(query));
    return {chunk, _mm256_abs_epi8(chunk)};
  }
  static Dot zero_dot() { return _mm256_setzero_si256(); }
  static Dot dot(Dot acc, const CodeOperand& operand, const std::byte* record) {
    const __m256i code = _mm256_load_si256(reinterpret_cast<const __m256i*>(record));
    const __m256i pairs =
        _mm256_maddubs_epi16(operand.magnitude, _mm256_sign_epi8(code, operand.query));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static void finish(const Dot (&acc)[kGroup], const CodeQuery& query,
                     const std::byte* const (&constants)[kGroup], float* out) {
    _mm_storeu_ps(out, finish4(sums(acc), query.factor, constants));
  }

  // A pair of products is at most 2 * 15 * 127 = 3,810: low and high nibbles fit 16 bits together.
  struct NibbleOperand {
    __m256i low, high;
  };
  static NibbleOperand nibble_operand(const int8_t* query) {
    return {_mm256_load_si256(reinterpret_cast<const __m256i*>(query)),
            _mm256_load_si256(reinterpret_cast<const __m256i*>(query + 64))};
  }
  static Dot dot_nibbles(Dot acc, const NibbleOperand& operand, const std::byte* record) {
    const __m256i both = _mm256_load_si256(reinterpret_cast<const __m256i*>(record));
    const __m256i mask = _mm256_set1_epi8(15);
    const __m256i low = _mm256_and_si256(both, mask);
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
    const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(low, operand.low),
                                           _mm256_maddubs_epi16(high, operand.high));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static void finish_nibbles(const Dot (&acc)[kGroup], const CodeQuery& query,
                             const std::byte* const (&constants)[kGroup], float* out) {
    _mm_storeu_ps(out, finish4(nibble_dots(sums(acc), query.sum), query.factor, constants));
  }

  using Index = __m256i;
  static Index set1_index(uint32_t value) { return _mm256_set1_epi32(static_cast<int>(value)); }
  static void keep_less(F& best, Index& index, F score, Index candidate) {
    const __m256 less = _mm256_cmp_ps(score, best, _CMP_LT_OQ);
    best = _mm256_blendv_ps(best, score, less);
    index = _mm256_blendv_epi8(index, candidate, _mm256_castps_si256(less));
  }
  static void store_index(uint32_t* p, Index value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), value);
  }

  static constexpr size_t kScanSubs = 2;
  struct ScanSums {
    __m256i low_dirty, low_odd, high_dirty, high_odd;  // see x86_scan.h; a lane per sub-code
  };
  static void scan(ScanSums& sums, const uint8_t* lut, const uint8_t* codes) {
    scan_lanes(sums, load_32(lut), load_32(codes));
  }
  static void scan_part(ScanSums& sums, const uint8_t* lut, const uint8_t* codes, size_t) {
    scan_lanes(sums, _mm256_zextsi128_si256(load_16(lut)), _mm256_zextsi128_si256(load_16(codes)));
  }
  static void add_sums(const ScanSums& sums, uint32_t* out) {
    add_pairs(lanes(sums.low_dirty), lanes(sums.low_odd), out);
    add_pairs(lanes(sums.high_dirty), lanes(sums.high_odd), out + kScanBytes);
  }
  // 12 sums would leave 4 registers for a value, its magnitude, two columns and what is between.
  static constexpr size_t kTileRows = 4, kTileVectors = 2;
  static constexpr size_t kDotLanes = 8;
  static CodeOperand repeat_four(const int8_t* four) {
    int32_t value;
    __builtin_memcpy(&value, four, sizeof value);
    const __m256i chunk = _mm256_set1_epi32(value);
    return {chunk, _mm256_abs_epi8(chunk)};
  }
  static F as_floats(Dot dots, int32_t) { return _mm256_cvtepi32_ps(dots); }

 private:
  static void scan_lanes(ScanSums& sums, __m256i lut, __m256i codes) {
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i low = _mm256_shuffle_epi8(lut, _mm256_and_si256(codes, nibble));
    const __m256i high =
        _mm256_shuffle_epi8(lut, _mm256_and_si256(_mm256_srli_epi16(codes, 4), nibble));
    sums.low_dirty = _mm256_add_epi16(sums.low_dirty, low);
    sums.low_odd = _mm256_add_epi16(sums.low_odd, _mm256_srli_epi16(low, 8));
    sums.high_dirty = _mm256_add_epi16(sums.high_dirty, high);
    sums.high_odd = _mm256_add_epi16(sums.high_odd, _mm256_srli_epi16(high, 8));
  }
  static __m128i lanes(__m256i x) {
    return _mm_add_epi16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  }
  static __m256i load_32(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  }
  static __m128i sums(const Dot (&acc)[kGroup]) {
    const __m256i lanes =
        _mm256_hadd_epi32(_mm256_hadd_epi32(acc[0], acc[1]), _mm256_hadd_epi32(acc[2], acc[3]));
    return _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
  }
  static __m128i load_16(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
  static __m128i load_bytes(const void* p, size_t bytes) {
    const Bytes16 block = load_partial<Avx2>(p, bytes);
    // Not _mm_set_epi64x: GCC 12 makes it two stores and a load that has to wait for both.
    return _mm_unpacklo_epi64(_mm_cvtsi64_si128(static_cast<int64_t>(block.low)),
                              _mm_cvtsi64_si128(static_cast<int64_t>(block.high)));
  }
};

}  // namespace

constinit const Kernels avx2_kernels = table_of<Avx2>(Isa::avx2, "avx2");

}  // namespace bigrain::simd
