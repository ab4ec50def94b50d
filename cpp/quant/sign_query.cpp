// SPDX-License-Identifier: Apache-2.0
#include "quant/sign_query.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstring>

namespace bigrain::quant {

namespace {

constexpr size_t kEntries = 16;
// Four magnitudes, each rounded up by at most a half, still fit a byte.
constexpr float kLargestSum = 253.0f;

// 16 entries as two words: bytes are added without carries, for no sum passes 255.
struct Entries {
  uint64_t half[2];
};

using Masks = std::array<Entries, kSubDims>;

// All ones in entry c of mask i where bit i of c is set.
constexpr Masks make_masks() {
  Masks masks{};
  for (size_t i = 0; i < kSubDims; ++i) {
    std::array<uint8_t, kEntries> bytes{};
    for (size_t c = 0; c < kEntries; ++c) bytes[c] = (c >> i & 1) != 0 ? 0xff : 0;
    masks[i] = std::bit_cast<Entries>(bytes);
  }
  return masks;
}
constexpr Masks kMasks = make_masks();
constexpr uint64_t kEveryByte = 0x0101010101010101u;

float largest_sum(std::span<const float> x) {
  float largest = 0;
  for (size_t begin = 0; begin < x.size(); begin += kSubDims) {
    float sum = 0;
    for (size_t j = begin; j < std::min(begin + kSubDims, x.size()); ++j) sum += std::fabs(x[j]);
    largest = std::max(largest, sum);
  }
  return largest;
}

}  // namespace

void SignQuery::prepare(std::span<const float> x, Metric metric) {
  centred = metric != Metric::ip;
  table.resize((x.size() + kSubDims - 1) / kSubDims * kEntries);
  const float largest = largest_sum(x);
  const float inverse = kLargestSum / largest;
  const bool is_zero = !(largest > 0) || !std::isfinite(inverse);
  const float unit = is_zero ? 0.0f : largest / kLargestSum;
  int32_t total = 0;
  squared_norm = 0;
  for (size_t begin = 0; begin < x.size(); begin += kSubDims) {
    Entries entries{};
    for (size_t i = 0; i < std::min(kSubDims, x.size() - begin); ++i) {
      const float value = x[begin + i];
      squared_norm += value * value;
      const float scaled = is_zero ? 0.0f : std::fabs(value) * inverse;
      const auto magnitude = static_cast<int32_t>(scaled + 0.5f);
      total += magnitude;
      // It counts where the bit agrees with the sign.
      const uint64_t flip = -static_cast<uint64_t>(value < 0);
      const uint64_t spread = kEveryByte * static_cast<uint64_t>(magnitude);
      entries.half[0] += (kMasks[i].half[0] ^ flip) & spread;
      entries.half[1] += (kMasks[i].half[1] ^ flip) & spread;
    }
    std::memcpy(&table[begin / kSubDims * kEntries], &entries, sizeof(entries));
  }
  step = 2 * unit;
  least = -unit * static_cast<float>(total);
}

}  // namespace bigrain::quant
