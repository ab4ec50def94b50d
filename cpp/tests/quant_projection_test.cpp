// SPDX-License-Identifier: Apache-2.0
#include "quant/projection.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "check.h"
#include "graph_fixture.h"
#include "quant/rotation.h"

namespace bigrain {
namespace {

struct Fixture {
  Fixture(size_t dim, size_t code_dim, const std::vector<float>& sample) {
    parts.meta.dim = static_cast<uint32_t>(dim);
    parts.meta.code_dim = static_cast<uint32_t>(code_dim);
    parts.meta.seed = 5;
    Monitor monitor;
    directions =
        quant::principal_directions(sample, dim, code_dim, simd::active_kernels(), 2, monitor);
    quant::set_projection(parts, directions, simd::active_kernels());
  }

  std::vector<float> apply(std::span<const float> x) const {
    std::vector<float> out(parts.meta.code_dim);
    quant::Projection::Scratch scratch;
    quant::Projection(parts, simd::active_kernels()).apply(x, scratch, out);
    return out;
  }

  // The rotation of the vector's components, without rounding to 8 bits.
  std::vector<float> expected(std::span<const float> x) const {
    std::vector<float> out(parts.meta.code_dim);
    for (size_t j = 0; j < out.size(); ++j) {
      double dot = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        dot += double{directions.vectors[j * x.size() + i]} * x[i];
      }
      out[j] = static_cast<float>(dot);
    }
    std::vector<uint8_t> signs(kRotationRounds * ((out.size() + 7) / 8));
    quant::draw_signs(parts.meta.seed, parts.meta.code_dim, signs);
    quant::rotate(signs, out, simd::active_kernels().hadamard);
    return out;
  }

  IndexParts parts;
  quant::PrincipalDirections directions;
};

TEST(the_map_is_that_of_components_within_8_bits) {
  for (size_t dim : {2u, 57u, 200u}) {
    for (size_t code_dim : {size_t{1}, dim / 2, dim - 1}) {
      std::vector<float> sample = check::random_vectors(300, dim, 92);
      for (size_t i = 0; i < sample.size(); ++i) sample[i] *= i % dim == 0 ? 30.0f : 1.0f;
      const Fixture fixture(dim, code_dim, sample);
      for (size_t r = 0; r < 20; ++r) {
        const std::span<const float> x(&sample[r * dim], dim);
        const std::vector<float> found = fixture.apply(x), expected = fixture.expected(x);
        const std::span<const float> scales = fixture.parts.scales.as<float>();
        // Half a step of each of the two codes, against the other vector's length: |x / s| for the
        // rows, whose largest element is at most max s, and |row| <= |s| for x.
        double scaled = 0, greatest = 0, rows = 0, scale = 0;
        for (size_t i = 0; i < dim; ++i) {
          const double value = std::abs(x[i] / scales[i]);
          scaled += value * value;
          greatest = std::max(greatest, value);
          rows += double{scales[i]} * scales[i];
          scale = std::max(scale, double{scales[i]});
        }
        const double width = std::sqrt(static_cast<double>(dim));
        const double bound =
            width / 254 * (scale * std::sqrt(scaled) + greatest * (std::sqrt(rows) + scale));
        for (size_t j = 0; j < code_dim; ++j) CHECK_NEAR(found[j], expected[j], bound);
        double error = 0, length = 0;
        for (size_t j = 0; j < code_dim; ++j) {
          error += std::pow(found[j] - expected[j], 2);
          length += std::pow(expected[j], 2);
        }
        if (code_dim >= 28) CHECK(error < 1e-2 * length);
      }
    }
  }
}

TEST(scales_are_positive_whatever_the_sample) {
  for (float value : {0.0f, 1e-30f, 1.0f, 1e15f}) {
    std::vector<float> sample(40 * 9);
    for (size_t i = 0; i < sample.size(); ++i) sample[i] = i % 9 == 4 && i % 2 == 0 ? value : 0.0f;
    const Fixture fixture(9, 3, sample);
    for (float scale : fixture.parts.scales.as<float>()) CHECK(std::isnormal(scale) && scale > 0);
    const std::vector<float> zero(9);
    for (float out : fixture.apply(zero)) CHECK_EQ(out, 0.0f);
  }
}

TEST(the_map_is_the_same_on_every_instruction_set) {
  const std::vector<float> sample = check::random_vectors(200, 70, 93);
  const Fixture fixture(70, 30, sample);
  const std::vector<float> expected = fixture.apply(std::span(sample).first(70));
  for (simd::Isa isa : {simd::Isa::scalar, simd::Isa::avx2, simd::Isa::avx512, simd::Isa::neon}) {
    const simd::Kernels* const kernels = simd::kernels_for(isa);
    if (kernels == nullptr) continue;
    std::vector<float> out(30);
    quant::Projection::Scratch scratch;
    quant::Projection(fixture.parts, *kernels).apply(std::span(sample).first(70), scratch, out);
    CHECK(out == expected);
  }
}

}  // namespace
}  // namespace bigrain
