// SPDX-License-Identifier: Apache-2.0
#include "quant/rotation.h"

#include <bit>
#include <cmath>

#include "format/parts.h"
#include "util/rng.h"

namespace bigrain::quant {

namespace {

void flip_signs(const uint8_t* signs, std::span<float> x) {
  for (size_t i = 0; i < x.size(); ++i) {
    const uint32_t flip = (static_cast<uint32_t>(signs[i / 8]) >> (i % 8) & 1u) << 31;
    x[i] = std::bit_cast<float>(std::bit_cast<uint32_t>(x[i]) ^ flip);
  }
}

// (a, b) -> (a + b, a - b) / sqrt(2) between the two halves; an odd middle stays.
void butterfly(std::span<float> x) {
  constexpr float kHalfRoot = 0.70710678118654752f;
  const size_t half = x.size() / 2;
  float* low = x.data();
  float* high = x.data() + (x.size() - half);
  for (size_t i = 0; i < half; ++i) {
    const float a = low[i], b = high[i];
    low[i] = (a + b) * kHalfRoot;
    high[i] = (a - b) * kHalfRoot;
  }
}

}  // namespace

void draw_signs(uint64_t seed, uint32_t dim, std::span<uint8_t> signs) {
  Rng rng(seed);
  for (uint8_t& byte : signs) byte = static_cast<uint8_t>(rng.next());
  // Unused bits are zero: the file has one form.
  const size_t row = (dim + 7) / 8;
  if (dim % 8 != 0) {
    for (size_t round = 0; round < kRotationRounds; ++round) {
      signs[round * row + row - 1] &= static_cast<uint8_t>((1u << (dim % 8)) - 1);
    }
  }
}

void rotate(std::span<const uint8_t> signs, std::span<float> x, simd::HadamardFn hadamard) {
  const size_t row = (x.size() + 7) / 8;
  const size_t block = std::bit_floor(x.size());
  for (size_t round = 0; round < kRotationRounds; ++round) {
    flip_signs(signs.data() + round * row, x);
    hadamard(x.data() + (round % 2 == 0 ? 0 : x.size() - block), block);
    if (block != x.size()) butterfly(x);
  }
}

void rotate_back(std::span<const uint8_t> signs, std::span<float> x, simd::HadamardFn hadamard) {
  const size_t row = (x.size() + 7) / 8;
  const size_t block = std::bit_floor(x.size());
  for (size_t round = kRotationRounds; round-- > 0;) {
    if (block != x.size()) butterfly(x);
    hadamard(x.data() + (round % 2 == 0 ? 0 : x.size() - block), block);
    flip_signs(signs.data() + round * row, x);
  }
}

}  // namespace bigrain::quant
