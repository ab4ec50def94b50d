// SPDX-License-Identifier: Apache-2.0
#include "quant/polar.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "quant/product.h"

namespace bigrain::quant {

namespace {

// Scaled steps lift 1e-5 to nearly 1 in 12; unscaled ones then square the error. Directions that
// start far lower gain 2.6-fold and then 1.5-fold, so 40 are enough for what float can tell.
constexpr int kMaxSteps = 40;
// X'X differs from I by rounding only.
constexpr float kOrthonormal = 2e-6f;
// Once the smallest singular value should have reached this, steps are no longer scaled.
constexpr double kNearOne = 0.9;

std::vector<float> gram_of(std::span<const float> x, size_t rows, size_t cols, uint32_t threads,
                           Monitor& monitor) {
  const std::vector<float> turned = transposed(x, rows, cols);
  std::vector<float> gram(cols * cols);
  PackedMatrix(x.data(), rows, cols).multiply(turned.data(), cols, gram.data(), threads, monitor);
  return gram;
}

double root_of_square_sum(std::span<const float> x) {
  double sum = 0;
  for (const float value : x) sum += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(sum);
}

float distance_from_identity(std::span<const float> gram, size_t cols) {
  float most = 0;
  for (size_t i = 0; i < gram.size(); ++i) {
    const float expected = i % (cols + 1) == 0 ? 1.0f : 0.0f;
    most = std::max(most, std::fabs(gram[i] - expected));
  }
  return most;
}

void scale_by(std::span<float> x, double factor) {
  for (float& value : x) value = static_cast<float>(static_cast<double>(value) * factor);
}

// The largest singular value becomes at most 1: |X'X|_F bounds its square, and is near it where
// few singular values are large. False where x is zero.
bool normalise(std::span<float> x, size_t rows, size_t cols, uint32_t threads, Monitor& monitor) {
  const double norm = root_of_square_sum(x);
  if (!(norm > 0) || !std::isfinite(norm)) return false;
  scale_by(x, 1 / norm);  // so that squares neither overflow nor vanish
  const double square = root_of_square_sum(gram_of(x, rows, cols, threads, monitor));
  // Float's rounding of the product, generously: the iteration must not see more than 1.
  constexpr double kMargin = 1.001;
  scale_by(x, 1 / (kMargin * std::sqrt(square)));
  return true;
}

}  // namespace

void make_orthonormal(std::span<float> x, size_t rows, size_t cols, std::span<const float> near,
                      uint32_t threads, Monitor& monitor) {
  if (!normalise(x, rows, cols, threads, monitor)) {
    std::copy(near.begin(), near.end(), x.begin());
    return;
  }
  for (size_t i = 0; i < x.size(); ++i) x[i] += kPolarPull * near[i];
  std::vector<float> product(x.size());
  double least = static_cast<double>(kPolarPull);
  for (int step = 0; step < kMaxSteps; ++step) {
    std::vector<float> gram = gram_of(x, rows, cols, threads, monitor);
    if (distance_from_identity(gram, cols) < kOrthonormal) return;
    const double scale = least < kNearOne ? std::sqrt(3 / (1 + least + least * least)) : 1.0;
    least = scale * least * (3 - scale * scale * least * least) / 2;
    scale_by(gram, -scale * scale * scale / 2);
    for (size_t i = 0; i < cols; ++i) gram[i * (cols + 1)] += static_cast<float>(1.5 * scale);
    PackedMatrix(gram.data(), cols, cols)
        .multiply(x.data(), rows, product.data(), threads, monitor);
    std::copy(product.begin(), product.end(), x.begin());
  }
}

}  // namespace bigrain::quant
