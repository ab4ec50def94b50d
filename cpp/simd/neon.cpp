// SPDX-License-Identifier: Apache-2.0
// NEON with the dot product instructions: Cortex-A76, Graviton 2, Apple M1 and later.
#include <arm_neon.h>

#include "simd/generic/partial_load.h"
#include "simd/generic/table.h"
#include "simd/tables.h"

namespace bigrain::simd {
namespace {

struct Neon {
  using F = float32x4_t;
  static constexpr size_t kLanes = 4;

  static F zero() { return vdupq_n_f32(0); }
  static F set1(float value) { return vdupq_n_f32(value); }
  static F add(F a, F b) { return vaddq_f32(a, b); }
  static F sub(F a, F b) { return vsubq_f32(a, b); }
  static F mul(F a, F b) { return vmulq_f32(a, b); }
  static F fmadd(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static F load(const float* p) { return vld1q_f32(p); }
  static F load_part(const float* p, size_t n) {
    const Bytes16 block = load_partial<Neon>(p, n * sizeof(float));
    return vreinterpretq_f32_u64(uint64x2_t{block.low, block.high});
  }
  static void store(float* p, F value) { vst1q_f32(p, value); }
  static float fold(F x) {
    const float32x2_t two = vadd_f32(vget_low_f32(x), vget_high_f32(x));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
  }

  static F min(F a, F b) { return vminq_f32(a, b); }
  static uint32_t bits_within(F a, F b) {
    const uint32x4_t bit = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcleq_f32(a, b), bit));
  }

  static F load_counts(const uint32_t* p) { return vcvtq_f32_u32(vld1q_u32(p)); }

  static F load(const Half* p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const uint16_t*>(p))));
  }
  static F load_part(const Half* p, size_t n) {
    const Bytes16 block = load_partial<Neon>(p, n * sizeof(Half));
    return vcvt_f32_f16(vreinterpret_f16_u64(vcreate_u64(block.low)));
  }

  template <size_t h>
  static F butterfly(F x) {
    const F partner = h == 1 ? vrev64q_f32(x) : vextq_f32(x, x, 2);
    const uint32x4_t upper = h == 1 ? uint32x4_t{0, ~0u, 0, ~0u} : uint32x4_t{0, 0, ~0u, ~0u};
    return vbslq_f32(upper, vsubq_f32(partner, x), vaddq_f32(partner, x));
  }

  static constexpr size_t kWideLanes = 8;
  using Wide = int16x8_t;
  using Acc = int32x4_t;
  static Acc zero_acc() { return vdupq_n_s32(0); }
  static Wide widen(const int8_t* p) { return vmovl_s8(vld1_s8(p)); }
  static Wide widen(const uint8_t* p) { return vreinterpretq_s16_u16(vmovl_u8(vld1_u8(p))); }
  static Wide widen_part(const int8_t* p, size_t n) {
    return vmovl_s8(vcreate_s8(load_partial<Neon>(p, n).low));
  }
  static Wide widen_part(const uint8_t* p, size_t n) {
    return vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(load_partial<Neon>(p, n).low)));
  }
  static Wide sub16(Wide a, Wide b) { return vsubq_s16(a, b); }
  static Acc add_products(Acc acc, Wide a, Wide b) {
    return vmlal_high_s16(vmlal_s16(acc, vget_low_s16(a), vget_low_s16(b)), a, b);
  }
  static int64_t sum(Acc acc) { return vaddlvq_s32(acc); }

  static constexpr size_t kCodeBytes = 16;
  using CodeOperand = int8x16_t;
  using Dot = int32x4_t;
  static CodeOperand code_operand(const int8_t* query) { return vld1q_s8(query); }
  static Dot zero_dot() { return vdupq_n_s32(0); }
  static Dot dot(Dot acc, CodeOperand query, const std::byte* record) {
    return vdotq_s32(acc, query, vld1q_s8(reinterpret_cast<const int8_t*>(record)));
  }
  static void finish(const Dot (&acc)[kGroup], const CodeQuery& query,
                     const std::byte* const (&constants)[kGroup], float* out) {
    for (size_t j = 0; j < kGroup; ++j)
      out[j] = finish_one(vaddvq_s32(acc[j]), query.factor, constants[j]);
  }

  struct NibbleOperand {
    int8x16_t low, high;
  };
  static NibbleOperand nibble_operand(const int8_t* query) {
    return {vld1q_s8(query), vld1q_s8(query + 64)};
  }
  static Dot dot_nibbles(Dot acc, const NibbleOperand& operand, const std::byte* record) {
    const uint8x16_t both = vld1q_u8(reinterpret_cast<const uint8_t*>(record));
    const int8x16_t low = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
    const int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));
    return vdotq_s32(vdotq_s32(acc, operand.low, low), operand.high, high);
  }
  static void finish_nibbles(const Dot (&acc)[kGroup], const CodeQuery& query,
                             const std::byte* const (&constants)[kGroup], float* out) {
    for (size_t j = 0; j < kGroup; ++j)
      out[j] = finish_one(2 * vaddvq_s32(acc[j]) - 15 * query.sum, query.factor, constants[j]);
  }

  using Index = uint32x4_t;
  static Index set1_index(uint32_t value) { return vdupq_n_u32(value); }
  static void keep_less(F& best, Index& index, F score, Index candidate) {
    const uint32x4_t less = vcltq_f32(score, best);
    best = vbslq_f32(less, score, best);
    index = vbslq_u32(less, candidate, index);
  }
  static void store_index(uint32_t* p, Index value) { vst1q_u32(p, value); }

  static constexpr size_t kScanSubs = 1;
  struct ScanSums {
    uint16x8_t of[kScanVectors / 8];
  };
  static void scan(ScanSums& sums, const uint8_t* lut, const uint8_t* codes) {
    const uint8x16_t table = vld1q_u8(lut), pairs = vld1q_u8(codes);
    const uint8x16_t low = vqtbl1q_u8(table, vandq_u8(pairs, vdupq_n_u8(15)));
    const uint8x16_t high = vqtbl1q_u8(table, vshrq_n_u8(pairs, 4));
    sums.of[0] = vaddw_u8(sums.of[0], vget_low_u8(low));
    sums.of[1] = vaddw_high_u8(sums.of[1], low);
    sums.of[2] = vaddw_u8(sums.of[2], vget_low_u8(high));
    sums.of[3] = vaddw_high_u8(sums.of[3], high);
  }
  static void scan_part(ScanSums&, const uint8_t*, const uint8_t*, size_t) {}
  static void add_sums(const ScanSums& sums, uint32_t* out) {
    for (size_t i = 0; i < kScanVectors / 8; ++i) {
      uint32_t* const to = out + 8 * i;
      vst1q_u32(to, vaddw_u16(vld1q_u32(to), vget_low_u16(sums.of[i])));
      vst1q_u32(to + 4, vaddw_high_u16(vld1q_u32(to + 4), sums.of[i]));
    }
  }

  static constexpr size_t kTileRows = 8, kTileVectors = 2;
  static constexpr size_t kDotLanes = 4;
  static CodeOperand repeat_four(const int8_t* four) {
    int32_t value;
    __builtin_memcpy(&value, four, sizeof value);
    return vreinterpretq_s8_s32(vdupq_n_s32(value));
  }
  static F as_floats(Dot dots, int32_t) { return vcvtq_f32_s32(dots); }

 private:
  static float finish_one(int32_t dot, float factor, const std::byte* constants) {
    float scale_bias[2];
    __builtin_memcpy(scale_bias, constants, sizeof scale_bias);
    return scale_bias[1] + (factor * scale_bias[0]) * static_cast<float>(dot);
  }
};

}  // namespace

constinit const Kernels neon_kernels = table_of<Neon>(Isa::neon, "neon");

}  // namespace bigrain::simd
