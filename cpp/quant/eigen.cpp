// SPDX-License-Identifier: Apache-2.0
#include "quant/eigen.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

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

class Jacobi {
 public:
  Jacobi(std::vector<float> c, size_t dim)
      : dim_(dim),
        rows_(std::move(c)),
        vectors_(dim * dim),
        squares_(dim),
        negated_dot_(simd::active_kernels().distance_of(Metric::ip, Dtype::f32)) {
    for (size_t i = 0; i < dim; ++i) vectors_[i * (dim + 1)] = 1;
    measure();
  }

  void sweep(Monitor& monitor) {
    for (size_t i = 0; i + 1 < dim_; ++i) {
      monitor.check();
      for (size_t j = i + 1; j < dim_; ++j) make_orthogonal(i, j);
    }
    measure();
  }

  Eigen result() const {
    std::vector<size_t> order(dim_);
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return squares_[a] > squares_[b]; });
    Eigen eigen{std::vector<float>(dim_ * dim_), std::vector<double>(dim_)};
    for (size_t i = 0; i < dim_; ++i) {
      eigen.values[i] = std::sqrt(std::max(squares_[order[i]], 0.0));
      std::copy_n(&vectors_[order[i] * dim_], dim_, &eigen.vectors[i * dim_]);
    }
    return eigen;
  }

 private:
  void measure() {
    for (size_t i = 0; i < dim_; ++i)
      squares_[i] = -static_cast<double>(negated_dot_(&rows_[i * dim_], &rows_[i * dim_], dim_));
  }

  void make_orthogonal(size_t i, size_t j) {
    float *a = &rows_[i * dim_], *b = &rows_[j * dim_];
    const double dot = -static_cast<double>(negated_dot_(a, b, dim_));
    if (std::fabs(dot) <= kOrthogonal * std::sqrt(squares_[i] * squares_[j])) return;
    // The rotation by the smaller angle that makes both rows orthogonal.
    const double zeta = (squares_[i] - squares_[j]) / (2 * dot);
    const double tangent = std::copysign(1 / (std::fabs(zeta) + std::sqrt(1 + zeta * zeta)), zeta);
    const double cosine = 1 / std::sqrt(1 + tangent * tangent), sine = cosine * tangent;
    rotate_rows(a, b, dim_, static_cast<float>(cosine), static_cast<float>(sine));
    rotate_rows(&vectors_[i * dim_], &vectors_[j * dim_], dim_, static_cast<float>(cosine),
                static_cast<float>(sine));
    squares_[i] += tangent * dot;
    squares_[j] = std::max(squares_[j] - tangent * dot, 0.0);
  }

  size_t dim_;
  std::vector<float> rows_, vectors_;
  std::vector<double> squares_;
  simd::DistanceFn negated_dot_;
};

}  // namespace

Eigen eigen_of(std::vector<float> c, size_t dim, Monitor& monitor) {
  Jacobi jacobi(std::move(c), dim);
  for (int sweep = 0; sweep < kSweeps; ++sweep) jacobi.sweep(monitor);
  return jacobi.result();
}

}  // namespace bigrain::quant
