// SPDX-License-Identifier: Apache-2.0
#include "quant/scalar8.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "bigrain/error.h"

namespace bigrain::quant {

namespace {

constexpr size_t kLanes = 8;  // independent sums: the order, and so the bits, are fixed
constexpr float kLargestCode = 127.0f;

float largest_magnitude(std::span<const float> x) {
  float lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float magnitude = std::fabs(x[i + lane]);
      lanes[lane] = magnitude > lanes[lane] ? magnitude : lanes[lane];
    }
  }
  for (; i < x.size(); ++i) lanes[0] = std::max(lanes[0], std::fabs(x[i]));
  return *std::max_element(lanes, lanes + kLanes);
}

int32_t sum_of(const int8_t* codes, size_t count) {
  int32_t sum = 0;
  for (size_t i = 0; i < count; ++i) sum += codes[i];
  return sum;
}

}  // namespace

float code_norm(std::span<const float> x) {
  float lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += x[i + lane] * x[i + lane];
  }
  for (; i < x.size(); ++i) lanes[0] += x[i] * x[i];
  float total = 0;
  for (float lane : lanes) total += lane;
  return total;
}

CodeConstants quantize(std::span<const float> x, int8_t* codes) {
  if (!std::isfinite(code_norm(x))) {
    throw Error::invalid(
        "vector: its squared norm is not finite in float32; expected finite "
        "values whose squares can be summed; rescale the data");
  }
  const float largest = largest_magnitude(x);
  const float scale = largest / kLargestCode;
  // A denormal scale has no finite inverse; such a vector is as good as zero.
  const float inverse = kLargestCode / largest;
  if (!(largest > 0) || !std::isfinite(inverse)) {
    std::fill_n(codes, x.size(), static_cast<int8_t>(0));
    return {0.0f, 0.0f};
  }
  // To the nearest, halves away from zero. No magnitude passes 127.0001, so nothing needs a clamp;
  // without one, and without a comparison, compilers take four at once or more.
  for (size_t i = 0; i < x.size(); ++i) {
    const float scaled = x[i] * inverse;
    codes[i] = static_cast<int8_t>(static_cast<int32_t>(scaled + std::copysign(0.5f, scaled)));
  }
  int32_t squared_code_norm = 0;
  for (size_t i = 0; i < x.size(); ++i) squared_code_norm += int32_t{codes[i]} * codes[i];
  // The same operations in the same order as score_codes: copies are at distance exactly zero.
  return {scale, (scale * scale) * static_cast<float>(squared_code_norm)};
}

simd::CodeQuery as_query(const int8_t* codes, size_t stride, float scale) {
  return {codes, sum_of(codes, stride), -2.0f * scale};
}

void encode(std::span<const float> x, Metric metric, size_t stride, std::byte* record) {
  std::memset(record, 0, stride);
  CodeConstants constants = quantize(x, reinterpret_cast<int8_t*>(record));
  if (metric == Metric::ip) constants.bias = 0;
  std::memcpy(record + stride - sizeof(constants), &constants, sizeof(constants));
}

CodeConstants constants_of(const std::byte* record, size_t stride) {
  CodeConstants constants;
  std::memcpy(&constants, record + stride - sizeof(constants), sizeof(constants));
  return constants;
}

simd::CodeQuery prepare(std::span<const float> x, size_t stride, int8_t* buffer) {
  std::memset(buffer, 0, stride);
  return as_query(buffer, stride, quantize(x, buffer).scale);
}

simd::CodeQuery prepare_record(const std::byte* record, size_t stride, int8_t* buffer,
                               float* offset) {
  std::memcpy(buffer, record, stride - sizeof(CodeConstants));
  std::memset(buffer + stride - sizeof(CodeConstants), 0, sizeof(CodeConstants));
  const CodeConstants constants = constants_of(record, stride);
  *offset = constants.bias;
  return as_query(buffer, stride, constants.scale);
}

}  // namespace bigrain::quant
