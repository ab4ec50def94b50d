// SPDX-License-Identifier: Apache-2.0
// The Walsh-Hadamard transform of every table against its matrix, and the tables with each other.
#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "bigrain/params.h"
#include "check.h"
#include "simd_common.h"

namespace bigrain::simd {
namespace {

std::vector<float> random_vector(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(size);
  for (float& value : x) value = normal(random);
  return x;
}

// In the last bytes before a page that faults, so that a write past the end is seen too.
std::vector<float> transformed(const Kernels& kernels, const std::vector<float>& x) {
  GuardedBuffer memory(x.size() * sizeof(float));
  float* data = reinterpret_cast<float*>(memory.last(x.size() * sizeof(float)));
  std::memcpy(data, x.data(), x.size() * sizeof(float));
  kernels.hadamard(data, x.size());
  return {data, data + x.size()};
}

TEST(equals_the_matrix) {
  for (size_t size = 1; size <= 1024; size *= 2) {
    const std::vector<float> x = random_vector(size, 1);
    for (const NamedTable& table : tables_here()) {
      const std::vector<float> got = transformed(*table.kernels, x);
      for (size_t i = 0; i < size; ++i) {
        double expected = 0;
        for (size_t j = 0; j < size; ++j)
          expected += std::popcount(i & j) % 2 ? -double{x[j]} : double{x[j]};
        CHECK_NEAR(got[i], expected / std::sqrt(static_cast<double>(size)), 1e-5);
      }
    }
  }
}

TEST(same_bits_everywhere) {
  const std::vector<NamedTable> tables = tables_here();
  for (size_t size = 1; size <= kMaxDim; size *= 2) {
    const std::vector<float> x = random_vector(size, 2);
    const std::vector<float> scalar = transformed(*tables[0].kernels, x);
    for (const NamedTable& table : tables) {
      const std::vector<float> got = transformed(*table.kernels, x);
      CHECK_EQ(std::memcmp(got.data(), scalar.data(), size * sizeof(float)), 0);
    }
  }
}

TEST(keeps_norms_and_undoes_itself) {
  const std::vector<float> x = random_vector(512, 3);
  for (const NamedTable& table : tables_here()) {
    const std::vector<float> y = transformed(*table.kernels, x);
    const std::vector<float> back = transformed(*table.kernels, y);
    double before = 0, after = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      before += double{x[i]} * x[i];
      after += double{y[i]} * y[i];
      CHECK_NEAR(back[i], x[i], 1e-5);
    }
    CHECK_NEAR(after, before, 1e-4 * before);
  }
}

}  // namespace
}  // namespace bigrain::simd
