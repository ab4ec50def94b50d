// SPDX-License-Identifier: Apache-2.0
#include "quant/projection.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "quant/rotation.h"
#include "quant/scalar8.h"

namespace bigrain::quant {

namespace {

// Scales are at least this part of the root mean square deviation: a coordinate that hardly varies
// in the sample must not blow up in a vector in which it does.
constexpr double kLeastScale = 0.25;

std::vector<float> scales_of(const std::vector<double>& deviations) {
  double sum = 0;
  for (double deviation : deviations) sum += deviation * deviation;
  const double least = kLeastScale * std::sqrt(sum / static_cast<double>(deviations.size()));
  std::vector<float> scales(deviations.size());
  for (size_t i = 0; i < scales.size(); ++i) {
    const auto scale = static_cast<float>(std::max(deviations[i], least));
    scales[i] = std::isnormal(scale) ? scale : 1.0f;
  }
  return scales;
}

}  // namespace

void set_projection(IndexParts& parts, const PrincipalDirections& directions,
                    const simd::Kernels& kernels) {
  const size_t dim = parts.meta.dim, code_dim = parts.meta.code_dim;
  std::vector<uint8_t> signs(kRotationRounds * ((code_dim + 7) / 8));
  draw_signs(parts.meta.seed, static_cast<uint32_t>(code_dim), signs);
  const std::vector<float> scales = scales_of(directions.deviations);
  std::vector<float> rows(code_dim * dim), column(code_dim);
  for (size_t i = 0; i < dim; ++i) {
    for (size_t j = 0; j < code_dim; ++j) column[j] = directions.vectors[j * dim + i] * scales[i];
    rotate(signs, column, kernels.hadamard);
    for (size_t j = 0; j < code_dim; ++j) rows[j * dim + i] = column[j];
  }
  const size_t stride = code_stride(parts.meta.dim);
  parts.scales = Buffer(dim * sizeof(float));
  std::copy(scales.begin(), scales.end(), parts.scales.as<float>().begin());
  parts.projection = Buffer(code_dim * stride);
  for (size_t j = 0; j < code_dim; ++j) {
    // Under inner product a record has no bias, so that a score is -2 <row, x>.
    encode(std::span(rows).subspan(j * dim, dim), Metric::ip, stride,
           parts.projection.data() + j * stride);
  }
}

Projection::Projection(const IndexParts& parts, const simd::Kernels& kernels)
    : scales_(parts.scales.as<float>()),
      rows_(parts.projection.data()),
      stride_(code_stride(parts.meta.dim)),
      score_codes_(kernels.score_codes),
      row_numbers_(parts.meta.code_dim) {
  std::iota(row_numbers_.begin(), row_numbers_.end(), 0u);
}

void Projection::apply(std::span<const float> x, Scratch& scratch, std::span<float> out) const {
  if (scratch.code.size() != stride_) {
    scratch.code = Buffer(stride_);
    scratch.scaled.resize(x.size());
  }
  for (size_t i = 0; i < x.size(); ++i) scratch.scaled[i] = x[i] / scales_[i];
  const simd::CodeQuery code = prepare(scratch.scaled, stride_, scratch.code.as<int8_t>().data());
  score_codes_(code, rows_, stride_, row_numbers_.data(), row_numbers_.size(), out.data());
  for (float& value : out) value *= -0.5f;
}

}  // namespace bigrain::quant
