// SPDX-License-Identifier: Apache-2.0
#include "quant/scalar4.h"

#include <cfloat>
#include <cmath>
#include <cstring>
#include <vector>

#include "bigrain/error.h"

namespace bigrain::quant {

namespace {

constexpr size_t kLine = 64;
constexpr size_t kLastLine = kLine - sizeof(CodeConstants);  // bytes of codes in the last line

// Where code i stands: its place in a prepared query, whose 128 l + w meets byte 64 l + w % 64 of a
// record, the low nibble where w < 64.
class Places {
 public:
  explicit Places(size_t dim) : last_(2 * (code4_stride(static_cast<uint32_t>(dim)) - kLine)) {}

  size_t of(size_t i) const { return i < last_ + kLastLine ? i : i + sizeof(CodeConstants); }
  static size_t byte_of(size_t place) { return place / (2 * kLine) * kLine + place % kLine; }
  static uint32_t shift_of(size_t place) { return place / kLine % 2 != 0 ? 4 : 0; }

 private:
  size_t last_;  // codes before the last line
};

int signed_code(const std::byte* record, size_t place) {
  const uint32_t byte = std::to_integer<uint32_t>(record[Places::byte_of(place)]);
  return static_cast<int>(2 * (byte >> Places::shift_of(place) & 15)) - 15;
}

// Scale and |x'|^2 of codes 2u - 15; zeros where x is as good as zero.
CodeConstants constants_for(std::span<const float> x, double squared_norm,
                            std::span<const uint8_t> codes) {
  if (squared_norm < FLT_MIN) return {0, 0};
  double product = 0;
  int64_t square = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const int code = 2 * codes[i] - 15;
    product += static_cast<double>(x[i]) * code;
    square += int64_t{code} * code;
  }
  const float scale = static_cast<float>(product / static_cast<double>(square));
  // The same operations in the same order as score_codes4: copies are at distance exactly zero.
  return {scale, (scale * scale) * static_cast<float>(square)};
}

}  // namespace

void encode4(std::span<const float> x, Metric metric, GridSearch& search, std::byte* record) {
  const size_t stride = code4_stride(static_cast<uint32_t>(x.size()));
  double squared_norm = 0;
  for (const float value : x) squared_norm += static_cast<double>(value) * value;
  if (!(squared_norm <= FLT_MAX)) {
    throw Error::invalid(
        "vector: its squared norm is not finite in float32; expected finite "
        "values whose squares can be summed; rescale the data");
  }
  std::vector<uint8_t> codes(x.size());
  search.nearest(x, codes);
  CodeConstants constants = constants_for(x, squared_norm, codes);
  if (metric == Metric::ip) constants.bias = 0;
  std::memset(record, 0, stride);
  const Places places(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t place = places.of(i);
    record[Places::byte_of(place)] |= static_cast<std::byte>(codes[i]) << Places::shift_of(place);
  }
  std::memcpy(record + stride - sizeof(constants), &constants, sizeof(constants));
}

void decode4(const std::byte* record, std::span<float> out) {
  const float scale = constants_of(record, code4_stride(static_cast<uint32_t>(out.size()))).scale;
  const Places places(out.size());
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = scale * static_cast<float>(signed_code(record, places.of(i)));
  }
}

simd::CodeQuery prepare4(std::span<const float> x, int8_t* buffer, float* offset) {
  const size_t bytes = size_t{2} * code4_stride(static_cast<uint32_t>(x.size()));
  std::memset(buffer, 0, bytes);
  const CodeConstants constants = quantize(x, buffer);
  *offset = constants.bias;
  // Only the codes that stand above the constants' low nibbles move, each past all the others.
  const Places places(x.size());
  for (size_t i = x.size(); i-- > 0 && places.of(i) != i;) {
    buffer[places.of(i)] = buffer[i];
    buffer[i] = 0;
  }
  return as_query(buffer, bytes, constants.scale);
}

simd::CodeQuery prepare_record4(const std::byte* record, uint32_t dim, int8_t* buffer,
                                float* offset) {
  const size_t bytes = size_t{2} * code4_stride(dim);
  std::memset(buffer, 0, bytes);
  const Places places(dim);
  for (size_t i = 0; i < dim; ++i) {
    const size_t place = places.of(i);
    buffer[place] = static_cast<int8_t>(signed_code(record, place));
  }
  const CodeConstants constants = constants_of(record, code4_stride(dim));
  *offset = constants.bias;
  return as_query(buffer, bytes, constants.scale);
}

}  // namespace bigrain::quant
