// SPDX-License-Identifier: Apache-2.0
// k-means: the optimum where it is known, degenerate data, and the same bytes for every number of
// threads.
#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "check.h"
#include "quant/kmeans.h"

namespace bigrain::quant {
namespace {

std::vector<float> normal_rows(size_t rows, size_t dim, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(rows * dim);
  for (float& value : x) value = normal(random);
  return x;
}

KMeansResult run(const std::vector<float>& x, size_t dim, uint32_t clusters, uint32_t threads = 1,
                 std::span<const float> start = {}) {
  const size_t count = x.size() / dim;
  const std::vector<uint32_t> rows = sample_rows(count, count, 5);
  KMeansParams params;
  params.clusters = clusters;
  params.threads = threads;
  Monitor monitor;
  return kmeans({{x.data(), count, dim, Dtype::f32}, rows, 0, dim}, params, start, monitor);
}

double error_of(const std::vector<float>& x, size_t dim, const std::vector<float>& centroids) {
  double total = 0;
  for (size_t i = 0; i < x.size(); i += dim) {
    double best = 1e300;
    for (size_t j = 0; j < centroids.size(); j += dim) {
      double sum = 0;
      for (size_t k = 0; k < dim; ++k) {
        const double difference = static_cast<double>(x[i + k]) - centroids[j + k];
        sum += difference * difference;
      }
      best = std::min(best, sum);
    }
    total += best;
  }
  return total / static_cast<double>(x.size() / dim);
}

TEST(finds_clusters_that_are_far_apart) {
  constexpr size_t kDim = 3, kClusters = 40, kEach = 50;
  const std::vector<float> noise = normal_rows(kClusters * kEach, kDim, 1);
  std::vector<float> x(noise.size());
  for (size_t i = 0; i < x.size(); ++i)
    x[i] =
        1000.0f + static_cast<float>(i / kDim % kClusters * (i % kDim + 1) % 41) + 1e-3f * noise[i];
  const KMeansResult result = run(x, kDim, kClusters);
  CHECK(error_of(x, kDim, result.centroids) < 1e-5);
}

TEST(is_the_same_for_every_number_of_threads) {
  constexpr size_t kDim = 5;
  const std::vector<float> x = normal_rows(9001, kDim, 2);
  const KMeansResult one = run(x, kDim, 77);
  for (const uint32_t threads : {2, 3, 7}) {
    const KMeansResult many = run(x, kDim, 77, threads);
    CHECK(one.centroids == many.centroids);
    CHECK_EQ(one.error, many.error);
    CHECK_EQ(one.iterations, many.iterations);
  }
}

TEST(error_is_the_mean_squared_distance) {
  constexpr size_t kDim = 4;
  const std::vector<float> x = normal_rows(3000, kDim, 3);
  const KMeansResult first = run(x, kDim, 20);
  const KMeansResult again = run(x, kDim, 20, 1, first.centroids);
  CHECK(again.error <= first.error);
  CHECK(error_of(x, kDim, again.centroids) <= again.error * 1.00001);
  CHECK(error_of(x, kDim, again.centroids) >= again.error * 0.99);
}

TEST(empty_cells_are_filled) {
  constexpr size_t kDim = 2;
  const std::vector<float> x = normal_rows(2000, kDim, 4);
  std::vector<float> start(50 * kDim, 1e6f);  // all but the first are nearest to nothing
  start[0] = start[1] = 0;
  const KMeansResult result = run(x, kDim, 50, 1, start);
  CHECK(error_of(x, kDim, result.centroids) < 1.2 * error_of(x, kDim, run(x, kDim, 50).centroids));
}

TEST(as_many_centroids_as_distinct_points_lose_nothing) {
  for (const size_t distinct : {1, 2, 5, 64}) {
    std::vector<float> x;
    for (size_t i = 0; i < 640; ++i)
      for (size_t k = 0; k < 3; ++k) x.push_back(static_cast<float>(i % distinct * (k + 1)) - 7);
    const KMeansResult result = run(x, 3, 64);
    CHECK(error_of(x, 3, result.centroids) < 1e-9);
    for (const float value : result.centroids) CHECK(std::isfinite(value));
  }
}

TEST(too_few_rows_are_refused) {
  const std::vector<float> x = normal_rows(15, 2, 6);
  CHECK_THROWS(run(x, 2, 16), ErrorKind::invalid_argument);
  CHECK_EQ(run(x, 2, 15).centroids.size(), 30);
}

TEST(samples_are_distinct_rows) {
  for (const size_t rows : {0, 1, 10, 5000}) {
    for (const size_t most : {0, 1, 9, 4000}) {
      const std::vector<uint32_t> sample = sample_rows(rows, most, 3);
      const std::set<uint32_t> distinct(sample.begin(), sample.end());
      CHECK_EQ(sample.size(), std::min(rows, most));
      CHECK_EQ(distinct.size(), sample.size());
      if (!distinct.empty()) CHECK(*distinct.rbegin() < rows);
    }
  }
}

TEST(can_be_cancelled) {
  const std::vector<float> x = normal_rows(20000, 8, 7);
  const std::vector<uint32_t> rows = sample_rows(20000, 20000, 5);
  KMeansParams params;
  params.threads = 2;
  Monitor monitor([](uint64_t, uint64_t) { return false; });
  CHECK_THROWS(kmeans({{x.data(), 20000, 8, Dtype::f32}, rows, 0, 8}, params, {}, monitor),
               ErrorKind::cancelled);
}

}  // namespace
}  // namespace bigrain::quant
