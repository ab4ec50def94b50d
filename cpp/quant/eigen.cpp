// SPDX-License-Identifier: Apache-2.0
#include "quant/eigen.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "simd/kernels.h"

namespace bigrain::quant {

namespace {

// Sweeps over all pairs: values of a 784-dimensional covariance moved by less than 1 % after.
constexpr int kSweeps = 5;
// Rows this close to orthogonal stay as they are: float's rounding.
constexpr double kOrthogonal = 1e-6;

void rotate_rows(float* a, float* b, size_t dim, float cosine, float sine) {
  for (size_t k = 0; k < dim; ++k) {
    const float x = a[k], y = b[k];
    a[k] = cosine * x + sine * y;
    b[k] = cosine * y - sine * x;
  }
}

}  // namespace

Eigen eigen_of(std::vector<float> c, size_t dim, Monitor& monitor) {
  const simd::DistanceFn negated_dot = simd::active_kernels().distance_of(Metric::ip, Dtype::f32);
  std::vector<float> vectors(dim * dim);
  for (size_t i = 0; i < dim; ++i) vectors[i * (dim + 1)] = 1;
  std::vector<double> squares(dim);
  const auto measure = [&] {
    for (size_t i = 0; i < dim; ++i)
      squares[i] = -static_cast<double>(negated_dot(&c[i * dim], &c[i * dim], dim));
  };
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    measure();
    for (size_t i = 0; i + 1 < dim; ++i) {
      monitor.check();
      for (size_t j = i + 1; j < dim; ++j) {
        float *a = &c[i * dim], *b = &c[j * dim];
        const double dot = -static_cast<double>(negated_dot(a, b, dim));
        if (std::fabs(dot) <= kOrthogonal * std::sqrt(squares[i] * squares[j])) continue;
        // The rotation by the smaller angle that makes both rows orthogonal.
        const double zeta = (squares[i] - squares[j]) / (2 * dot);
        const double tangent = std::copysign(1 / (std::fabs(zeta) + std::hypot(1, zeta)), zeta);
        const double cosine = 1 / std::hypot(1, tangent), sine = cosine * tangent;
        rotate_rows(a, b, dim, static_cast<float>(cosine), static_cast<float>(sine));
        rotate_rows(&vectors[i * dim], &vectors[j * dim], dim, static_cast<float>(cosine),
                    static_cast<float>(sine));
        squares[i] += tangent * dot;
        squares[j] = std::max(squares[j] - tangent * dot, 0.0);
      }
    }
  }
  measure();
  std::vector<size_t> order(dim);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return squares[a] > squares[b]; });
  Eigen eigen{std::vector<float>(dim * dim), std::vector<double>(dim)};
  for (size_t i = 0; i < dim; ++i) {
    eigen.values[i] = std::sqrt(std::max(squares[order[i]], 0.0));
    std::copy_n(&vectors[order[i] * dim], dim, &eigen.vectors[i * dim]);
  }
  return eigen;
}

}  // namespace bigrain::quant
