// SPDX-License-Identifier: Apache-2.0
// IEEE 754 binary16 to binary32, exact for every input, and back, rounded down; without F16C.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace bigrain {

inline float half_to_float(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16;
  const uint32_t magnitude = half & 0x7fffu;
  if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | (magnitude << 13) | 0x7f800000u);
  // Scaling by 2^112 moves the exponent's bias from 15 to 127 and normalises subnormals.
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(scaled) | sign);
}

// The largest binary16 that is not above `value`: 65,504 beyond it, -infinity below -65,504.
inline uint16_t half_below(float value) {
  constexpr uint16_t kLargest = 0x7bff, kInfinity = 0x7c00, kNan = 0x7e00, kSign = 0x8000;
  if (value != value) return kNan;
  const bool negative = std::signbit(value);
  const float magnitude = std::fabs(value);
  if (magnitude > 65504.0f) return negative ? kSign | kInfinity : kLargest;
  // One step of binary16 at this magnitude; below 2^-14 they are all alike.
  const int exponent = std::max(magnitude > 0 ? std::ilogb(magnitude) : -14, -14);
  const float steps = std::ldexp(magnitude, 10 - exponent);  // exact
  const auto whole = static_cast<uint32_t>(negative ? std::ceil(steps) : std::floor(steps));
  // A normal number's 1,024 to 2,047 steps carry its exponent's lowest bit; 2,048 carry over.
  const uint32_t bits = (static_cast<uint32_t>(exponent + 14) << 10) + whole;
  return static_cast<uint16_t>(bits | (negative ? kSign : 0u));
}

}  // namespace bigrain
