// SPDX-License-Identifier: Apache-2.0
#include "quant/rotation.h"

#include <vector>

#include "check.h"
#include "format/parts.h"
#include "graph_fixture.h"

namespace bigrain {
namespace {

std::vector<uint8_t> signs_for(uint32_t dim, uint64_t seed) {
  std::vector<uint8_t> signs(kRotationRounds * ((dim + 7) / 8));
  quant::draw_signs(seed, dim, signs);
  return signs;
}

TEST(rotation_keeps_norms_and_inner_products) {
  for (uint32_t dim : {1u, 2u, 3u, 7u, 8u, 100u, 101u, 128u, 784u, 1025u}) {
    std::vector<float> a = check::random_vectors(1, dim, 1), b = check::random_vectors(1, dim, 2);
    double before = 0, norm_before = 0, after = 0, norm_after = 0;
    for (size_t i = 0; i < dim; ++i) {
      before += double{a[i]} * b[i];
      norm_before += double{a[i]} * a[i];
    }
    const std::vector<uint8_t> signs = signs_for(dim, 9);
    quant::rotate(signs, a, simd::active_kernels().hadamard);
    quant::rotate(signs, b, simd::active_kernels().hadamard);
    for (size_t i = 0; i < dim; ++i) {
      after += double{a[i]} * b[i];
      norm_after += double{a[i]} * a[i];
    }
    CHECK_NEAR(before, after, 1e-5 * (1 + norm_before));
    CHECK_NEAR(norm_before, norm_after, 1e-5 * (1 + norm_before));
  }
}

TEST(rotation_spreads_a_single_coordinate) {
  std::vector<float> x(784);
  x[3] = 1;
  quant::rotate(signs_for(784, 4), x, simd::active_kernels().hadamard);
  float largest = 0;
  for (float value : x) largest = std::max(largest, std::fabs(value));
  CHECK(largest < 0.25f);  // 1/sqrt(784) = 0.036 if spread evenly
}

TEST(rotating_back_returns_the_vector) {
  for (uint32_t dim : {1u, 2u, 3u, 7u, 8u, 100u, 101u, 784u, 1025u}) {
    const std::vector<float> before = check::random_vectors(1, dim, 3);
    std::vector<float> x = before;
    const std::vector<uint8_t> signs = signs_for(dim, 6);
    quant::rotate(signs, x, simd::active_kernels().hadamard);
    quant::rotate_back(signs, x, simd::active_kernels().hadamard);
    for (size_t i = 0; i < dim; ++i) CHECK_NEAR(x[i], before[i], 2e-6);
  }
}

TEST(unused_sign_bits_are_zero) {
  const std::vector<uint8_t> signs = signs_for(11, 5);
  for (size_t round = 0; round < kRotationRounds; ++round) CHECK_EQ(signs[round * 2 + 1] >> 3, 0);
}

}  // namespace
}  // namespace bigrain
