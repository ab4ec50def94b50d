// SPDX-License-Identifier: Apache-2.0
// One RaBitQ code in memory. With P = ceil(dim / 8) a record is
//   P bytes       the highest bits of the codes: bit i % 8 of byte i / 8 belongs to code i
//   3 x float32   |r|^2, and scale and error of those bits alone
//   for more than one bit:
//   P bytes each  the other bits, the highest first
//   2 x float32   scale and error of the whole code
// in native byte order, packed; unused bits are zero. So the first P + 12 bytes of a record are the
// 1-bit record of the same vector, bit for bit, and a reader may look at them alone first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace bigrain::quant {

// r ~ scale * g for the grid point g of a code, see rabitq.h.
struct RabitqFactors {
  float squared_norm;  // |r|^2 (F_add)
  float scale;         // <g, q> times this estimates <r, q> (F_rescale = -2 scale)
  float error;         // standard error of that per unit of |q| (F_error, without epsilon_0)
};

class RabitqLayout {
 public:
  RabitqLayout(uint32_t dim, uint32_t bits);

  uint32_t dim() const { return dim_; }
  uint32_t bits() const { return bits_; }
  size_t size() const;  // bytes of a record

  // `whole` and `first`, the highest bit's, share |r|^2; with one bit they are the same.
  void pack(std::span<const uint8_t> codes, const RabitqFactors& first, const RabitqFactors& whole,
            std::byte* record) const;
  RabitqFactors factors(const std::byte* record) const;
  // The grid point: code - (2^bits - 1) / 2. `codes` is scratch of as many bytes as `grid` has
  // floats, rounded up to a multiple of 8.
  void unpack(const std::byte* record, std::span<uint8_t> codes, std::span<float> grid) const;

 private:
  // Offset of the plane of bit `bit` (bits - 1 is the highest).
  size_t plane(uint32_t bit) const;

  uint32_t dim_, bits_;
  size_t plane_bytes_;
};

}  // namespace bigrain::quant
