// SPDX-License-Identifier: Apache-2.0
// Product quantization: codes, decoding and distances against plain loops over the codebooks.
#include "quant/pq.h"

#include <algorithm>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "quant/pq_scan.h"

namespace bigrain::quant {
namespace {

std::vector<float> normal_values(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

Pq random_pq(const PqShape& shape, uint32_t seed) {
  return {shape, normal_values(shape.centroids() * shape.dim, seed)};
}

double part_distance(const Pq& pq, const float* x, size_t sub, size_t j, Metric metric) {
  double sum = 0;
  for (size_t i = 0; i < pq.shape().length(sub); ++i) {
    const double a = x[pq.shape().first(sub) + i], b = pq.centroid(sub, j)[i];
    sum += metric == Metric::l2 ? (a - b) * (a - b) : -a * b;
  }
  return sum;
}

constexpr PqShape kShapes[] = {{1, 1, 8},  {1, 1, 4},    {7, 3, 8},   {7, 3, 4},  {8, 8, 4},
                               {65, 2, 8}, {100, 33, 4}, {128, 1, 8}, {96, 96, 8}};

TEST(shapes_cover_the_vector) {
  for (const PqShape& shape : {PqShape{10, 3, 8}, PqShape{12, 4, 8}, PqShape{5, 5, 4}}) {
    size_t next = 0;
    for (size_t sub = 0; sub < shape.subs; ++sub) {
      CHECK_EQ(shape.first(sub), next);
      next += shape.length(sub);
      if (sub > 0) CHECK(shape.length(sub) <= shape.length(sub - 1));
    }
    CHECK_EQ(next, shape.dim);
  }
  CHECK_EQ((PqShape{10, 3, 8}.length(0)), 4);
  CHECK_EQ((PqShape{10, 3, 4}.code_size()), 2);
}

TEST(codes_name_the_nearest_centroids) {
  for (const PqShape& shape : kShapes) {
    const Pq pq = random_pq(shape, 1);
    constexpr size_t kRows = 131;
    const std::vector<float> x = normal_values(kRows * shape.dim, 2);
    std::vector<uint8_t> codes(kRows * shape.code_size(), 0xee), again(codes.size(), 0x11);
    Monitor monitor;
    const MatrixView view{x.data(), kRows, shape.dim, Dtype::f32};
    pq.encode(view, codes.data(), 1, monitor);
    pq.encode(view, again.data(), 3, monitor);
    CHECK(codes == again);
    for (size_t i = 0; i < kRows; ++i) {
      for (size_t sub = 0; sub < shape.subs; ++sub) {
        const float* const row = x.data() + i * shape.dim;
        double best = std::numeric_limits<double>::infinity();
        for (size_t j = 0; j < shape.centroids(); ++j)
          best = std::min(best, part_distance(pq, row, sub, j, Metric::l2));
        const uint32_t code = shape.code(codes.data() + i * shape.code_size(), sub);
        CHECK_NEAR(part_distance(pq, row, sub, code, Metric::l2), best, 1e-4);
      }
    }
    if (shape.bits == 4 && shape.subs % 2 == 1) CHECK_EQ(codes[shape.code_size() - 1] >> 4, 0);
  }
}

TEST(decoding_gives_the_centroids) {
  for (const PqShape& shape : kShapes) {
    const Pq pq = random_pq(shape, 3);
    const std::vector<float> centroids(pq.codebooks().begin(), pq.codebooks().end());
    std::vector<uint8_t> codes(2 * shape.code_size());
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(37 * i + 5);
    std::vector<float> out(2 * shape.dim);
    Monitor monitor;
    pq.decode(codes.data(), 2, out.data(), 2, monitor);
    for (size_t i = 0; i < 2; ++i)
      for (size_t sub = 0; sub < shape.subs; ++sub)
        for (size_t k = 0; k < shape.length(sub); ++k)
          CHECK_EQ(out[i * shape.dim + shape.first(sub) + k],
                   pq.centroid(sub, shape.code(codes.data() + i * shape.code_size(), sub))[k]);
  }
}

void check_distances(const Pq& pq, Metric metric, size_t rows) {
  const PqShape& shape = pq.shape();
  const std::vector<float> queries = normal_values(3 * shape.dim, 4);
  std::mt19937 random(5);
  std::vector<uint8_t> codes(rows * shape.code_size());
  for (uint8_t& code : codes) code = static_cast<uint8_t>(random());
  std::vector<float> out(3 * rows);
  Monitor monitor;
  pq_distances(pq, {queries.data(), 3, shape.dim, Dtype::f32}, codes.data(), rows, metric,
               out.data(), 2, monitor);
  for (size_t q = 0; q < 3; ++q) {
    const float* const query = queries.data() + q * shape.dim;
    const double bound = static_cast<double>(scan_error_bound(pq, query, metric));
    CHECK(shape.bits == 4 ? bound > 0 : bound == 0);
    for (size_t i = 0; i < rows; ++i) {
      double sum = 0, scale = 1;
      for (size_t sub = 0; sub < shape.subs; ++sub) {
        const uint32_t code = shape.code(codes.data() + i * shape.code_size(), sub);
        sum += part_distance(pq, query, sub, code, metric);
        scale += std::abs(part_distance(pq, query, sub, code, metric));
      }
      CHECK_NEAR(out[q * rows + i], sum, bound + 1e-5 * scale);
    }
  }
}

TEST(distances_are_sums_of_entries) {
  for (const PqShape& shape : kShapes)
    for (const size_t rows : {1, 31, 32, 33, 200})
      for (const Metric metric : {Metric::l2, Metric::ip})
        check_distances(random_pq(shape, 6), metric, rows);
}

TEST(many_sub_codes_do_not_overflow) {
  check_distances(random_pq({1500, 1500, 4}, 7), Metric::l2, 40);
}

TEST(equal_entries_have_no_error) {
  const Pq pq({8, 4, 4}, std::vector<float>(16 * 8, 0.5f));
  const std::vector<float> query(8, 2.0f);
  CHECK_EQ(scan_error_bound(pq, query.data(), Metric::l2), 0.0f);
  std::vector<uint8_t> codes(2, 0x7e);
  float out = 0;
  Monitor monitor;
  pq_distances(pq, {query.data(), 1, 8, Dtype::f32}, codes.data(), 1, Metric::l2, &out, 1, monitor);
  CHECK_EQ(out, 18.0f);
}

TEST(fitting_refuses_what_cannot_be_fitted) {
  const std::vector<float> x = normal_values(100 * 4, 8);
  Monitor monitor;
  const MatrixView view{x.data(), 100, 4, Dtype::f32};
  for (const PqShape& shape :
       {PqShape{4, 0, 4}, PqShape{4, 5, 4}, PqShape{4, 2, 5}, PqShape{4, 2, 8} /* 100 rows */})
    CHECK_THROWS(Pq::fit(view, shape, {}, monitor), ErrorKind::invalid_argument);
  CHECK_EQ(Pq::fit(view, {4, 2, 4}, {}, monitor).codebooks().size(), 64);
  CHECK_THROWS(Pq({4, 2, 4}, std::vector<float>(63)), ErrorKind::invalid_argument);
}

}  // namespace
}  // namespace bigrain::quant
