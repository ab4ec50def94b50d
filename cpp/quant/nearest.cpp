// SPDX-License-Identifier: Apache-2.0
#include "quant/nearest.h"

#include <algorithm>
#include <limits>

namespace bigrain::quant {

NearestCentroid::NearestCentroid(const simd::Kernels& kernels, size_t count, size_t dim)
    : kernels_(&kernels),
      dim_(dim),
      groups_((count + kernels.nearest_rows - 1) / kernels.nearest_rows),
      values_(groups_ * kernels.nearest_rows * dim * sizeof(float)),
      offsets_(groups_ * kernels.nearest_rows * sizeof(float)) {}

void NearestCentroid::set(const float* centroids, size_t given, std::span<const float> centre) {
  const size_t rows = kernels_->nearest_rows;
  float* const values = values_.as<float>().data();
  const std::span<float> offsets = offsets_.as<float>();
  std::fill(offsets.begin(), offsets.end(), std::numeric_limits<float>::infinity());
  for (size_t j = 0; j < given; ++j) {
    float* const to = values + j / rows * dim_ * rows + j % rows;
    double square = 0;
    for (size_t k = 0; k < dim_; ++k) {
      const float value = centroids[j * dim_ + k] - (centre.empty() ? 0.0f : centre[k]);
      square += static_cast<double>(value) * static_cast<double>(value);
      to[k * rows] = -value;
    }
    offsets[j] = static_cast<float>(square / 2);
  }
}

}  // namespace bigrain::quant
