// SPDX-License-Identifier: Apache-2.0
#include "index/choose_code_dim.h"

#include <algorithm>
#include <vector>

#include "check.h"
#include "graph_fixture.h"
#include "quant/code_space.h"

namespace bigrain {
namespace {

constexpr size_t kRows = 4'200;

// `rank` strong directions of coordinates from `first` on, mixed by nothing, and weak noise.
std::vector<float> planted(size_t rows, size_t dim, size_t first, size_t rank, float noise) {
  Rng rng(96);
  std::vector<float> vectors(rows * dim);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t j = 0; j < dim; ++j) {
      const bool strong = j >= first && j < first + rank;
      vectors[r * dim + j] = (strong ? 1.0f : noise) * (rng.uniform() - 0.5f);
    }
  }
  return vectors;
}

IndexParts choose(const std::vector<float>& vectors, size_t dim, uint32_t wanted = 0,
                  const std::vector<float>& queries = {}, Metric metric = Metric::l2,
                  uint32_t threads = 2) {
  IndexParts parts;
  parts.meta.metric = metric;
  parts.meta.dim = static_cast<uint32_t>(dim);
  parts.meta.count = vectors.size() / dim;
  parts.vectors = Buffer(vectors.size() * sizeof(float));
  if (!vectors.empty()) {
    std::memcpy(parts.vectors.data(), vectors.data(), parts.vectors.size());
  }
  Monitor monitor;
  quant::fit_mean(parts, threads, monitor);
  const MatrixView view{queries.data(), queries.size() / dim, dim, Dtype::f32};
  choose_code_dim(parts, wanted, view, simd::active_kernels(), threads, monitor);
  return parts;
}

TEST(data_in_a_subspace_gets_short_codes) {
  for (Metric metric : {Metric::l2, Metric::ip, Metric::cosine}) {
    const IndexParts parts = choose(planted(kRows, 256, 100, 12, 0.01f), 256, 0, {}, metric);
    CHECK_EQ(parts.meta.code_dim, 56u);
    CHECK(parts.is_projected());
    CHECK_EQ(parts.trials.size(), 4u);  // 56, 120, 184, all
  }
}

TEST(white_noise_keeps_all_dimensions) {
  const IndexParts parts = choose(planted(kRows, 256, 0, 256, 0), 256);
  CHECK_EQ(parts.meta.code_dim, 256u);
  CHECK(!parts.is_projected());
  CHECK(!parts.trials.empty());
}

TEST(a_wanted_length_is_taken_without_trials) {
  const std::vector<float> vectors = planted(kRows, 80, 0, 8, 0.05f);
  for (uint32_t wanted : {1u, 79u, 80u}) {
    const IndexParts parts = choose(vectors, 80, wanted);
    CHECK_EQ(parts.meta.code_dim, wanted);
    CHECK_EQ(parts.is_projected(), wanted < 80);
    CHECK(parts.trials.empty());
  }
}

TEST(queries_elsewhere_change_the_choice) {
  // Points vary most in the first coordinates, queries in those that projections leave out.
  const size_t dim = 256;
  const std::vector<float> base = planted(kRows, dim, 0, 12, 0.1f);
  const IndexParts alone = choose(base, dim, 0, {}, Metric::ip);
  std::vector<float> queries = planted(300, dim, 12, dim - 12, 0);
  const IndexParts asked = choose(base, dim, 0, queries, Metric::ip);
  CHECK_EQ(alone.meta.code_dim, 56u);
  CHECK(asked.meta.code_dim > alone.meta.code_dim);
  CHECK(asked.trials.front().rerank > alone.trials.front().rerank);
}

TEST(few_points_are_not_measured) {
  for (size_t rows : {0u, 1u, 4'095u, 4'096u}) {
    const IndexParts parts = choose(planted(rows, 128, 0, 6, 0.01f), 128);
    CHECK_EQ(parts.trials.empty(), rows < 4'096);
    CHECK_EQ(parts.is_projected(), rows >= 4'096);
  }
}

TEST(the_choice_does_not_depend_on_threads) {
  const std::vector<float> vectors = planted(kRows, 150, 3, 30, 0.3f);
  const IndexParts expected = choose(vectors, 150, 0, {}, Metric::l2, 1);
  for (uint32_t threads : {2u, 7u}) {
    const IndexParts parts = choose(vectors, 150, 0, {}, Metric::l2, threads);
    CHECK_EQ(parts.meta.code_dim, expected.meta.code_dim);
    CHECK_EQ(parts.trials.size(), expected.trials.size());
    for (size_t i = 0; i < parts.trials.size(); ++i) {
      CHECK_EQ(parts.trials[i].rerank, expected.trials[i].rerank);
      CHECK_EQ(parts.trials[i].cost, expected.trials[i].cost);
    }
    CHECK_EQ(parts.projection.size(), expected.projection.size());
    CHECK(std::equal(parts.projection.data(), parts.projection.data() + parts.projection.size(),
                     expected.projection.data()));
  }
}

TEST(choosing_can_be_cancelled) {
  const std::vector<float> vectors = planted(kRows, 128, 0, 6, 0.01f);
  IndexParts parts;
  parts.meta.dim = 128;
  parts.meta.count = kRows;
  parts.vectors = Buffer(vectors.size() * sizeof(float));
  std::memcpy(parts.vectors.data(), vectors.data(), parts.vectors.size());
  Monitor quiet;
  quant::fit_mean(parts, 1, quiet);
  Monitor monitor([](uint64_t, uint64_t) { return false; });
  CHECK_THROWS(choose_code_dim(parts, 0, {}, simd::active_kernels(), 1, monitor),
               ErrorKind::cancelled);
}

}  // namespace
}  // namespace bigrain
