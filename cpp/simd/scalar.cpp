// SPDX-License-Identifier: Apache-2.0
// The table that every machine can run. Registers are four floats in the compiler's portable
// vector type, which is SSE2 or NEON where the baseline has them and plain code elsewhere.
#include "simd/generic/partial_load.h"
#include "simd/generic/table.h"
#include "simd/tables.h"

namespace bigrain::simd {
namespace {

struct Scalar {
  using F = float __attribute__((vector_size(16)));
  using U = uint32_t __attribute__((vector_size(16)));
  static constexpr size_t kLanes = 4;

  static F zero() { return F{}; }
  static F set1(float value) { return F{value, value, value, value}; }
  static F add(F a, F b) { return a + b; }
  static F sub(F a, F b) { return a - b; }
  static F mul(F a, F b) { return a * b; }
  static F fmadd(F a, F b, F c) { return a * b + c; }
  static F load(const float* p) { return load_whole<F>(p); }
  static F load_part(const float* p, size_t n) { return load_first<F>(p, n * sizeof(float)); }
  static void store(float* p, F value) { __builtin_memcpy(p, &value, sizeof value); }
  static float fold(F x) { return (x[0] + x[2]) + (x[1] + x[3]); }

  static F min(F a, F b) { return a < b ? a : b; }
  static uint32_t bits_within(F a, F b) {
    uint32_t bits = 0;
    for (size_t lane = 0; lane < kLanes; ++lane) bits |= uint32_t{a[lane] <= b[lane]} << lane;
    return bits;
  }

  static F load_counts(const uint32_t* p) { return __builtin_convertvector(load_whole<U>(p), F); }

  static F load(const Half* p) { return widen_half(load_whole<Bits>(p)); }
  static F load_part(const Half* p, size_t n) {
    return widen_half(load_first<Bits>(p, n * sizeof(Half)));
  }

  template <size_t h>
  static F butterfly(F x) {
    if constexpr (h == 1) return F{x[0] + x[1], x[0] - x[1], x[2] + x[3], x[2] - x[3]};
    return F{x[0] + x[2], x[1] + x[3], x[0] - x[2], x[1] - x[3]};
  }

  static constexpr size_t kWideLanes = 8;
  using Wide = int16_t __attribute__((vector_size(16)));
  using Acc = int32_t __attribute__((vector_size(16)));
  static Acc zero_acc() { return Acc{}; }
  static Wide widen(const int8_t* p) { return widen_bytes(load_whole<Signed>(p)); }
  static Wide widen(const uint8_t* p) { return widen_bytes(load_whole<Unsigned>(p)); }
  static Wide widen_part(const int8_t* p, size_t n) {
    return widen_bytes(load_first<Signed>(p, n));
  }
  static Wide widen_part(const uint8_t* p, size_t n) {
    return widen_bytes(load_first<Unsigned>(p, n));
  }
  static Wide sub16(Wide a, Wide b) { return a - b; }
  static Acc add_products(Acc acc, Wide a, Wide b) {
    return acc + low_half(a) * low_half(b) + high_half(a) * high_half(b);
  }
  static int64_t sum(Acc acc) { return int64_t{acc[0]} + acc[1] + acc[2] + acc[3]; }

  static constexpr size_t kCodeBytes = 64;
  using CodeOperand = const int8_t*;
  using Dot = int32_t;
  static CodeOperand code_operand(const int8_t* query) { return query; }
  static Dot zero_dot() { return 0; }
  static Dot dot(Dot acc, CodeOperand query, const std::byte* record) {
    const int8_t* code = reinterpret_cast<const int8_t*>(record);
    for (size_t i = 0; i < kCodeBytes; ++i) acc += int16_t{query[i]} * int16_t{code[i]};
    return acc;
  }
  static void finish(const Dot (&acc)[kGroup], const CodeQuery& query,
                     const std::byte* const (&constants)[kGroup], float* out) {
    for (size_t j = 0; j < kGroup; ++j) out[j] = finish_one(acc[j], query.factor, constants[j]);
  }

  static CodeOperand nibble_operand(const int8_t* query) { return query; }
  static Dot dot_nibbles(Dot acc, CodeOperand query, const std::byte* record) {
    const uint8_t* both = reinterpret_cast<const uint8_t*>(record);
    for (size_t i = 0; i < kCodeBytes; ++i) acc += int16_t{query[i]} * int16_t(both[i] & 15);
    for (size_t i = 0; i < kCodeBytes; ++i) acc += int16_t{query[i + 64]} * int16_t(both[i] >> 4);
    return acc;
  }
  static void finish_nibbles(const Dot (&acc)[kGroup], const CodeQuery& query,
                             const std::byte* const (&constants)[kGroup], float* out) {
    for (size_t j = 0; j < kGroup; ++j)
      out[j] = finish_one(2 * acc[j] - 15 * query.sum, query.factor, constants[j]);
  }

  using Index = U;
  static Index set1_index(uint32_t value) { return Index{value, value, value, value}; }
  static void keep_less(F& best, Index& index, F score, Index candidate) {
    const auto less = score < best;
    best = less ? score : best;
    index = less ? candidate : index;
  }
  static void store_index(uint32_t* p, Index value) { __builtin_memcpy(p, &value, sizeof value); }

  static constexpr size_t kScanSubs = 1;
  struct ScanSums {
    uint16_t of[kScanVectors];
  };
  static void scan(ScanSums& sums, const uint8_t* lut, const uint8_t* codes) {
    for (size_t j = 0; j < kScanBytes; ++j) {
      sums.of[j] = static_cast<uint16_t>(sums.of[j] + lut[codes[j] & 15]);
      sums.of[j + kScanBytes] = static_cast<uint16_t>(sums.of[j + kScanBytes] + lut[codes[j] >> 4]);
    }
  }
  static void scan_part(ScanSums&, const uint8_t*, const uint8_t*, size_t) {}
  static void add_sums(const ScanSums& sums, uint32_t* out) {
    for (size_t j = 0; j < kScanVectors; ++j) out[j] += sums.of[j];
  }
  static constexpr size_t kTileRows = 4, kTileVectors = 2;
  static constexpr size_t kDotLanes = 4;
  static CodeOperand repeat_four(const int8_t* four) { return four; }
  static Acc dot_four(Acc acc, CodeOperand four, const std::byte* columns) {
    const int8_t* code = reinterpret_cast<const int8_t*>(columns);
    for (size_t lane = 0; lane < kDotLanes; ++lane)
      for (size_t i = 0; i < 4; ++i) acc[lane] += four[i] * code[4 * lane + i];
    return acc;
  }
  static F as_floats(Acc dots, int32_t) { return __builtin_convertvector(dots, F); }

 private:
  static float finish_one(int32_t dot, float factor, const std::byte* constants) {
    float scale_bias[2];
    __builtin_memcpy(scale_bias, constants, sizeof scale_bias);
    return scale_bias[1] + (factor * scale_bias[0]) * static_cast<float>(dot);
  }

  using Bits = uint16_t __attribute__((vector_size(8)));
  using Short4 = int16_t __attribute__((vector_size(8)));
  using Signed = int8_t __attribute__((vector_size(8)));
  using Unsigned = uint8_t __attribute__((vector_size(8)));

  template <class Block>
  static Block load_whole(const void* p) {
    Block block;
    __builtin_memcpy(&block, p, sizeof block);
    return block;
  }
  template <class Block>
  static Block load_first(const void* p, size_t bytes) {
    const Bytes16 bytes16 = load_partial<Scalar>(p, bytes);
    return load_whole<Block>(&bytes16);
  }
  template <class Block>
  static Wide widen_bytes(Block bytes) {
    return __builtin_convertvector(bytes, Wide);
  }
  static Acc low_half(Wide x) {
    return __builtin_convertvector(Short4(__builtin_shufflevector(x, x, 0, 1, 2, 3)), Acc);
  }
  static Acc high_half(Wide x) {
    return __builtin_convertvector(Short4(__builtin_shufflevector(x, x, 4, 5, 6, 7)), Acc);
  }
  // IEEE half to float by integer arithmetic: also right for subnormals (a mantissa times 2^-24,
  // both normal floats, so no flush-to-zero mode can touch it), infinities and NaN.
  static F widen_half(Bits half) {
    const U bits = __builtin_convertvector(half, U);
    const U magnitude = bits & 0x7fff;
    const F small = __builtin_convertvector(magnitude, F) * 0x1p-24f;
    const U normal = (magnitude << 13) + (112u << 23);
    const U special = (magnitude << 13) | 0x7f800000u;
    const U is_small = U(magnitude < 0x400);
    const U is_special = U(magnitude >= 0x7c00);
    const U value = (is_small & U(small)) | (is_special & special) |
                    (~(is_small | is_special) & normal) | ((bits & 0x8000) << 16);
    return F(value);
  }
};

}  // namespace

constinit const Kernels scalar_kernels = table_of<Scalar>(Isa::scalar, "scalar");

}  // namespace bigrain::simd
