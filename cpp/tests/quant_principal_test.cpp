// SPDX-License-Identifier: Apache-2.0
#include "quant/principal.h"

#include <cmath>
#include <vector>

#include "check.h"
#include "graph_fixture.h"

namespace bigrain {
namespace {

// Rows in a random subspace of `rank` dimensions, and noise around it.
std::vector<float> planted(size_t rows, size_t dim, size_t rank, float noise) {
  Rng rng(91);
  std::vector<float> axes(rank * dim), sample(rows * dim);
  for (float& value : axes) value = rng.uniform() - 0.5f;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t a = 0; a < rank; ++a) {
      const float share = rng.uniform() - 0.5f;
      for (size_t j = 0; j < dim; ++j) sample[r * dim + j] += share * axes[a * dim + j];
    }
    for (size_t j = 0; j < dim; ++j) sample[r * dim + j] += noise * (rng.uniform() - 0.5f);
  }
  return sample;
}

quant::PrincipalDirections directions_of(const std::vector<float>& sample, size_t dim, size_t count,
                                         uint32_t threads = 2,
                                         const simd::Kernels& kernels = simd::active_kernels()) {
  Monitor monitor;
  return quant::principal_directions(sample, dim, count, kernels, threads, monitor);
}

void check_orthonormal(const std::vector<float>& rows, size_t dim) {
  for (size_t a = 0; a < rows.size() / dim; ++a) {
    for (size_t b = 0; b <= a; ++b) {
      double dot = 0;
      for (size_t j = 0; j < dim; ++j) dot += double{rows[a * dim + j]} * rows[b * dim + j];
      CHECK_NEAR(dot, a == b ? 1 : 0, 1e-5);
    }
  }
}

// Share of the sample's energy within the span of the first `count` rows.
double captured(const std::vector<float>& sample, const std::vector<float>& rows, size_t dim,
                size_t count) {
  double all = 0, within = 0;
  for (size_t r = 0; r < sample.size() / dim; ++r) {
    for (size_t j = 0; j < dim; ++j) all += double{sample[r * dim + j]} * sample[r * dim + j];
    for (size_t a = 0; a < count; ++a) {
      double dot = 0;
      for (size_t j = 0; j < dim; ++j) dot += double{sample[r * dim + j]} * rows[a * dim + j];
      within += dot * dot;
    }
  }
  return within / all;
}

TEST(rows_are_orthonormal_and_hold_a_planted_subspace) {
  const size_t dim = 40;
  const std::vector<float> sample = planted(600, dim, 6, 0.02f);
  for (size_t count : {size_t{6}, size_t{12}, dim}) {
    const quant::PrincipalDirections found = directions_of(sample, dim, count);
    CHECK_EQ(found.vectors.size(), count * dim);
    check_orthonormal(found.vectors, dim);
    // The noise's own share of the energy is 3e-4 or less.
    CHECK(captured(sample, found.vectors, dim, 6) > 0.995);
    CHECK(captured(sample, found.vectors, dim, count) < 1 + 1e-5);
  }
}

TEST(deviations_are_root_mean_squares) {
  const size_t dim = 5, rows = 200;
  const std::vector<float> sample = planted(rows, dim, 3, 0.5f);
  const quant::PrincipalDirections found = directions_of(sample, dim, 2);
  for (size_t j = 0; j < dim; ++j) {
    double sum = 0;
    for (size_t r = 0; r < rows; ++r) sum += double{sample[r * dim + j]} * sample[r * dim + j];
    CHECK_NEAR(found.deviations[j], std::sqrt(sum / rows), 1e-5);
  }
}

TEST(samples_of_low_rank_are_filled_up) {
  const size_t dim = 24;
  for (const std::vector<float>& sample :
       {planted(300, dim, 3, 0), planted(2, dim, 2, 0), planted(1, dim, 1, 0),
        std::vector<float>(50 * dim, 0.0f), std::vector<float>(50 * dim, 1.0f)}) {
    for (size_t count : {size_t{1}, size_t{10}, dim}) {
      const quant::PrincipalDirections found = directions_of(sample, dim, count);
      check_orthonormal(found.vectors, dim);
      for (double deviation : found.deviations) CHECK(deviation >= 0);
      if (count == dim && sample[0] != 0) {
        CHECK(captured(sample, found.vectors, dim, 3) > 1 - 1e-4);
      }
    }
  }
}

TEST(bits_do_not_depend_on_threads_or_instruction_set) {
  const size_t dim = 37;
  const std::vector<float> sample = planted(500, dim, 8, 0.3f);
  const quant::PrincipalDirections expected = directions_of(sample, dim, 20, 1);
  for (uint32_t threads : {2u, 7u}) {
    const quant::PrincipalDirections found = directions_of(sample, dim, 20, threads);
    CHECK(found.vectors == expected.vectors);
    CHECK(found.deviations == expected.deviations);
  }
  for (simd::Isa isa : {simd::Isa::scalar, simd::Isa::avx2, simd::Isa::avx512, simd::Isa::neon}) {
    const simd::Kernels* const kernels = simd::kernels_for(isa);
    if (kernels == nullptr) continue;
    CHECK(directions_of(sample, dim, 20, 2, *kernels).vectors == expected.vectors);
  }
}

TEST(finding_directions_can_be_cancelled) {
  Monitor monitor([](uint64_t, uint64_t) { return false; });
  CHECK_THROWS(quant::principal_directions(planted(100, 20, 3, 0.1f), 20, 5, simd::active_kernels(),
                                           2, monitor),
               ErrorKind::cancelled);
}

}  // namespace
}  // namespace bigrain
