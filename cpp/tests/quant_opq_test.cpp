// SPDX-License-Identifier: Apache-2.0
// The trained rotation and what it is made of: products, polar factors, eigenvectors.
#include "quant/opq.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "check.h"
#include "quant/eigen.h"
#include "quant/polar.h"
#include "quant/product.h"
#include "simd_common.h"

namespace bigrain::quant {
namespace {

std::vector<float> normal_values(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// Rows with a few strong directions that no coordinate axis shows.
std::vector<float> correlated_rows(size_t rows, size_t dim, uint32_t seed) {
  const std::vector<float> factors = normal_values(dim * dim, 1),
                           z = normal_values(rows * dim, seed);
  std::vector<float> x(rows * dim);
  for (size_t i = 0; i < rows; ++i)
    for (size_t j = 0; j < dim; ++j)
      for (size_t k = 0; k < dim; ++k)
        x[i * dim + k] += z[i * dim + j] * factors[j * dim + k] / static_cast<float>(1 + j);
  return x;
}

double orthonormality(std::span<const float> r, size_t rows, size_t cols) {
  double most = 0;
  for (size_t a = 0; a < cols; ++a) {
    for (size_t b = 0; b <= a; ++b) {
      double dot = 0;
      for (size_t k = 0; k < rows; ++k)
        dot += static_cast<double>(r[k * cols + a]) * static_cast<double>(r[k * cols + b]);
      most = std::max(most, std::abs(dot - (a == b ? 1.0 : 0.0)));
    }
  }
  return most;
}

TEST(rounded_tiles_are_the_same_bits_everywhere) {
  for (const size_t dim : {1, 2, 17, 255, 256, 257, 600}) {
    for (const simd::NamedTable& table : simd::tables_here()) {
      const size_t rows = table.kernels->gemm_tile_rows, cols = table.kernels->gemm_tile_cols;
      const std::vector<float> a = normal_values(rows * dim, 2), b = normal_values(dim * cols, 3);
      std::vector<float> out(rows * cols);
      table.kernels->gemm_tile_rounded(a.data(), rows, b.data(), dim, out.data(), cols);
      for (size_t r = 0; r < rows; ++r) {
        for (size_t c = 0; c < cols; ++c) {
          float total = 0;
          for (size_t begin = 0; begin < dim; begin += 256) {
            float run = 0;
            for (size_t k = begin; k < std::min(dim, begin + 256); ++k)
              run += a[r * dim + k] * b[k * cols + c];
            total = begin == 0 ? run : total + run;
          }
          CHECK_EQ(simd::bits_of(out[r * cols + c]), simd::bits_of(total));
        }
      }
    }
  }
}

TEST(products_of_any_shape) {
  for (const size_t cols : {1, 5, 48, 49, 130}) {
    constexpr size_t kRows = 107, kDepth = 33;
    const std::vector<float> a = normal_values(kRows * kDepth, 4);
    const std::vector<float> b = normal_values(kDepth * cols, 5);
    std::vector<float> out(kRows * cols);
    Monitor monitor;
    PackedMatrix(b.data(), kDepth, cols).multiply(a.data(), kRows, out.data(), 3, monitor);
    for (size_t i = 0; i < kRows; ++i) {
      for (size_t j = 0; j < cols; ++j) {
        double sum = 0;
        for (size_t k = 0; k < kDepth; ++k)
          sum += static_cast<double>(a[i * kDepth + k]) * static_cast<double>(b[k * cols + j]);
        CHECK_NEAR(out[i * cols + j], sum, 1e-4);
      }
    }
  }
}

TEST(polar_factors) {
  Monitor monitor;
  for (const auto& [rows, cols] : {std::pair<size_t, size_t>{1, 1}, {7, 3}, {40, 40}, {90, 31}}) {
    std::vector<float> near(rows * cols);
    for (size_t i = 0; i < cols; ++i) near[i * cols + i] = 1;
    for (const float scale : {1e-15f, 1.0f, 1e15f}) {
      std::vector<float> x = normal_values(rows * cols, 6);
      for (float& value : x) value *= scale;
      const std::vector<float> from = x;
      make_orthonormal(x, rows, cols, near, 2, monitor);
      CHECK(orthonormality(x, rows, cols) < 1e-5);
      // x' from is symmetric and positive where x is the polar factor.
      double trace = 0, skew = 0;
      for (size_t a = 0; a < cols; ++a) {
        for (size_t b = 0; b < cols; ++b) {
          double ab = 0, ba = 0;
          for (size_t k = 0; k < rows; ++k) {
            ab += static_cast<double>(x[k * cols + a]) * from[k * cols + b] / scale;
            ba += static_cast<double>(x[k * cols + b]) * from[k * cols + a] / scale;
          }
          skew = std::max(skew, std::abs(ab - ba));
          trace += a == b ? ab : 0;
        }
      }
      CHECK(trace > 0);
      CHECK(skew < 2e-2);
    }
    std::vector<float> zero(rows * cols);
    make_orthonormal(zero, rows, cols, near, 1, monitor);
    CHECK(zero == near);
    std::vector<float> single(rows * cols);  // rank 1: the rest follows `near`
    single[0] = 5;
    make_orthonormal(single, rows, cols, near, 1, monitor);
    CHECK(orthonormality(single, rows, cols) < 1e-5);
  }
}

TEST(eigenvectors) {
  constexpr size_t kDim = 30;
  const std::vector<float> vectors = correlated_rows(200, kDim, 7);
  std::vector<float> c(kDim * kDim);
  Monitor monitor;
  PackedMatrix(vectors.data(), 200, kDim)
      .multiply(transposed(vectors, 200, kDim).data(), kDim, c.data(), 1, monitor);
  const Eigen eigen = eigen_of(c, kDim, monitor);
  CHECK(orthonormality(eigen.vectors, kDim, kDim) < 1e-4);
  CHECK(std::is_sorted(eigen.values.rbegin(), eigen.values.rend()));
  for (size_t i = 0; i < kDim; ++i) {
    for (size_t k = 0; k < kDim; ++k) {
      double image = 0;
      for (size_t j = 0; j < kDim; ++j)
        image += static_cast<double>(c[k * kDim + j]) * eigen.vectors[i * kDim + j];
      CHECK_NEAR(image, eigen.values[i] * eigen.vectors[i * kDim + k], 1e-3 * eigen.values[0]);
    }
  }
}

double error_of(const Opq& opq, const std::vector<float>& x, size_t rows) {
  Monitor monitor;
  std::vector<uint8_t> codes(rows * opq.pq().shape().code_size());
  std::vector<float> decoded(x.size());
  opq.encode({x.data(), rows, opq.dim(), Dtype::f32}, codes.data(), 2, monitor);
  opq.decode(codes.data(), rows, decoded.data(), 2, monitor);
  double error = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double difference = static_cast<double>(x[i]) - decoded[i];
    error += difference * difference;
  }
  return error / static_cast<double>(rows);
}

TEST(rotations_lower_the_error_and_do_not_depend_on_threads) {
  constexpr size_t kDim = 13, kRows = 3000;
  std::vector<float> x = correlated_rows(kRows, kDim, 8);
  for (float& value : x) value += 2;
  const MatrixView view{x.data(), kRows, kDim, Dtype::f32};
  for (const size_t out : {kDim, size_t{9}}) {
    for (const uint32_t bits : {4u, 8u}) {
      OpqParams params;
      params.pq.threads = 1;
      Monitor monitor;
      const Opq one = Opq::fit(view, {out, 4, bits}, params, monitor);
      params.pq.threads = 3;
      const Opq many = Opq::fit(view, {out, 4, bits}, params, monitor);
      CHECK(std::ranges::equal(one.rotation(), many.rotation()));
      CHECK(std::ranges::equal(one.pq().codebooks(), many.pq().codebooks()));
      CHECK(orthonormality(one.rotation(), kDim, out) < 1e-5);
      params.rotations = 0;
      const Opq start = Opq::fit(view, {out, 4, bits}, params, monitor);
      CHECK(error_of(one, x, kRows) < error_of(start, x, kRows));
      std::vector<float> identity(kDim * kDim);
      for (size_t i = 0; i < kDim; ++i) identity[i * (kDim + 1)] = 1;
      const Opq plain(identity, kDim, Pq::fit(view, {kDim, 4, bits}, params.pq, monitor));
      CHECK(error_of(one, x, kRows) < 0.8 * error_of(plain, x, kRows));
    }
  }
}

TEST(what_cannot_be_fitted_is_refused) {
  const std::vector<float> x = normal_values(100 * 4, 9);
  const MatrixView view{x.data(), 100, 4, Dtype::f32};
  Monitor monitor;
  for (const PqShape& shape : {PqShape{5, 2, 4}, PqShape{4, 2, 8}, PqShape{2, 3, 4}})
    CHECK_THROWS(Opq::fit(view, shape, {}, monitor), ErrorKind::invalid_argument);
  CHECK_THROWS(Opq(std::vector<float>(15), 4, Pq({4, 2, 4}, std::vector<float>(64))),
               ErrorKind::invalid_argument);
}

}  // namespace
}  // namespace bigrain::quant
