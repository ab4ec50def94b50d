// SPDX-License-Identifier: Apache-2.0
#include "quant/rabitq_record.h"

#include <array>
#include <cstring>

namespace bigrain::quant {

namespace {

constexpr size_t kFirstFactors = sizeof(RabitqFactors);
constexpr size_t kWholeFactors = 2 * sizeof(float);

// Byte i of spread[b] is bit i of b.
constexpr std::array<uint64_t, 256> spread_table() {
  std::array<uint64_t, 256> table{};
  for (size_t byte = 0; byte < 256; ++byte) {
    for (size_t bit = 0; bit < 8; ++bit) {
      table[byte] |= static_cast<uint64_t>(byte >> bit & 1) << (8 * bit);
    }
  }
  return table;
}
constexpr std::array<uint64_t, 256> kSpread = spread_table();

// Bit `bit` of the first eight codes, or of as many as there are. Bit 8 j of the masked word goes
// to bit 56 + j by 2^(56 - 7 j); no other two terms of the product meet, and none carries.
uint8_t gather(std::span<const uint8_t> codes, uint32_t bit) {
  uint64_t eight = 0;
  const size_t count = codes.size() < 8 ? codes.size() : 8;
  for (size_t j = 0; j < count; ++j) eight |= uint64_t{codes[j]} << (8 * j);
  return static_cast<uint8_t>((eight >> bit & 0x0101010101010101) * 0x0102040810204080 >> 56);
}

}  // namespace

RabitqLayout::RabitqLayout(uint32_t dim, uint32_t bits)
    : dim_(dim), bits_(bits), plane_bytes_((size_t{dim} + 7) / 8) {}

size_t RabitqLayout::size() const {
  return bits_ * plane_bytes_ + kFirstFactors + (bits_ > 1 ? kWholeFactors : 0);
}

size_t RabitqLayout::plane(uint32_t bit) const {
  const size_t place = bits_ - 1 - bit;
  return place * plane_bytes_ + (place > 0 ? kFirstFactors : 0);
}

void RabitqLayout::pack(std::span<const uint8_t> codes, const RabitqFactors& first,
                        const RabitqFactors& whole, std::byte* record) const {
  std::memset(record, 0, size());
  for (uint32_t bit = 0; bit < bits_; ++bit) {
    auto* const out = reinterpret_cast<uint8_t*>(record + plane(bit));
    for (size_t i = 0; i < plane_bytes_; ++i) out[i] = gather(codes.subspan(8 * i), bit);
  }
  std::memcpy(record + plane_bytes_, &first, sizeof first);
  if (bits_ > 1) {
    const float rest[2] = {whole.scale, whole.error};
    std::memcpy(record + size() - sizeof rest, rest, sizeof rest);
  }
}

RabitqFactors RabitqLayout::factors(const std::byte* record) const {
  RabitqFactors factors;
  std::memcpy(&factors, record + plane_bytes_, sizeof factors);
  if (bits_ > 1) {
    float rest[2];
    std::memcpy(rest, record + size() - sizeof rest, sizeof rest);
    factors.scale = rest[0];
    factors.error = rest[1];
  }
  return factors;
}

void RabitqLayout::unpack(const std::byte* record, std::span<uint8_t> codes,
                          std::span<float> grid) const {
  for (size_t i = 0; i < plane_bytes_; ++i) {
    uint64_t eight = 0;
    for (uint32_t bit = 0; bit < bits_; ++bit) {
      eight |= kSpread[std::to_integer<uint8_t>(record[plane(bit) + i])] << bit;
    }
    for (size_t j = 0; j < 8; ++j) codes[8 * i + j] = static_cast<uint8_t>(eight >> (8 * j));
  }
  const float middle = static_cast<float>((1u << bits_) - 1) / 2;
  for (size_t i = 0; i < grid.size(); ++i) grid[i] = static_cast<float>(codes[i]) - middle;
}

}  // namespace bigrain::quant
