// SPDX-License-Identifier: Apache-2.0
// IEEE 754 binary16 to binary32, exact for every input, without F16C.
#pragma once

#include <bit>
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

}  // namespace bigrain
