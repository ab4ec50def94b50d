// SPDX-License-Identifier: Apache-2.0
// The grid's nearest direction against a walk over every breakpoint in double precision.
#include "quant/grid_search.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>
#include <vector>

#include "check.h"

namespace bigrain {
namespace {

double cosine_of(const std::vector<float>& x, const std::vector<double>& g) {
  double product = 0, square = 0, norm = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    product += g[i] * x[i];
    square += g[i] * g[i];
    norm += double{x[i]} * x[i];
  }
  return product / std::sqrt(square * norm);
}

double best_cosine(const std::vector<float>& x, uint32_t bits) {
  const int levels = 1 << (bits - 1);
  std::vector<std::pair<double, size_t>> events;
  std::vector<double> g(x.size());
  double product = 0, square = 0, norm = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double magnitude = std::fabs(double{x[i]});
    for (int m = 1; m < levels && magnitude > 0; ++m) events.emplace_back(m / magnitude, i);
    g[i] = 0.5;
    product += 0.5 * magnitude;
    square += 0.25;
    norm += magnitude * magnitude;
  }
  std::sort(events.begin(), events.end());
  double best = product * product / square;
  for (const auto& [t, i] : events) {
    product += std::fabs(double{x[i]});
    square += 2 * g[i] + 1;
    g[i] += 1;
    best = std::max(best, product * product / square);
  }
  return std::sqrt(best / norm);
}

double found_cosine(const std::vector<float>& x, uint32_t bits) {
  quant::GridSearch search(bits);
  std::vector<uint8_t> codes(x.size());
  search.nearest(x, codes);
  std::vector<double> g(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    CHECK(codes[i] < 1u << bits);
    CHECK_EQ(codes[i] >> (bits - 1), x[i] >= 0 ? 1 : 0);
    g[i] = codes[i] - ((1 << bits) - 1) / 2.0;
  }
  return cosine_of(x, g);
}

// Float magnitudes round the breakpoints by 1e-7: the cosine may differ by as much.
void check_vector(const std::vector<float>& x, uint32_t bits) {
  const double found = found_cosine(x, bits), best = best_cosine(x, bits);
  if (std::fabs(found - best) > 1e-7)
    check::fail(__FILE__, __LINE__,
                "d=" + std::to_string(x.size()) + " bits=" + std::to_string(bits) + ": cosine " +
                    check::show(found) + ", best " + check::show(best));
}

TEST(gaussian_vectors_get_the_best_direction) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const size_t dim : {1, 2, 3, 5, 8, 16, 17, 20, 33, 64, 100, 129, 300, 784, 2000, 4096}) {
    for (uint32_t bits = 1; bits <= 8; ++bits) {
      for (size_t repeat = 0; repeat < 1 + 2000 / dim; ++repeat) {
        std::vector<float> x(dim);
        for (float& value : x) value = normal(random);
        check_vector(x, bits);
      }
    }
  }
}

TEST(small_vectors_of_any_shape_get_the_best_direction) {
  std::mt19937 random(2);
  for (size_t repeat = 0; repeat < 2000; ++repeat) {
    std::vector<float> x(1 + random() % 8);
    for (float& value : x)
      value = std::ldexp(static_cast<float>(random() % 201) - 100, static_cast<int>(random() % 9));
    x[0] += 1000;  // not all zero
    for (uint32_t bits = 1; bits <= 8; ++bits) check_vector(x, bits);
  }
}

TEST(outliers_and_equal_coordinates) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (uint32_t bits = 2; bits <= 8; ++bits) {
    std::vector<float> equal(500, -0.25f), one(500), sparse(500);
    for (float& value : one) value = 0.01f * normal(random);
    one[17] = 100;
    for (size_t i = 0; i < 500; i += 25) sparse[i] = normal(random);
    check_vector(equal, bits);
    // A rotated vector does not look like these two: the best of the window must do.
    CHECK(found_cosine(one, bits) > 0.75 * best_cosine(one, bits));
    CHECK(found_cosine(sparse, bits) > 0.9 * best_cosine(sparse, bits));
  }
}

TEST(zeros_and_extremes_of_scale) {
  for (uint32_t bits = 1; bits <= 8; ++bits) {
    quant::GridSearch search(bits);
    std::vector<uint8_t> codes(5), small(5), large(5);
    search.nearest(std::vector<float>(5), codes);
    for (const uint8_t code : codes) CHECK_EQ(code, 1 << (bits - 1));
    search.nearest(std::vector<float>{1e-30f, -3e-30f, 2e-30f, 0, 7e-31f}, small);
    search.nearest(std::vector<float>{1e18f, -3e18f, 2e18f, 0, 7e17f}, large);
    CHECK(small == large);
  }
}

}  // namespace
}  // namespace bigrain
