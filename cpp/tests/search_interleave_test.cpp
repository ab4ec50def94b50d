// SPDX-License-Identifier: Apache-2.0
// Queries that take turns answer as they do alone.
#include "search/interleave.h"

#include <vector>

#include "bigrain/index.h"
#include "check.h"
#include "graph_fixture.h"

namespace bigrain {
namespace {

constexpr size_t kDim = 60;

struct Answers {
  explicit Answers(size_t rows, size_t k) : ids(rows * k), distances(rows * k), stats(rows) {}
  SearchOutput output() { return {ids.data(), distances.data(), stats.data()}; }

  std::vector<int64_t> ids;
  std::vector<float> distances;
  std::vector<QueryStats> stats;
};

void check_same(const Answers& found, const Answers& expected) {
  CHECK(found.ids == expected.ids);
  CHECK(found.distances == expected.distances);
  for (size_t q = 0; q < found.stats.size(); ++q) {
    CHECK_EQ(found.stats[q].hops, expected.stats[q].hops);
    CHECK_EQ(found.stats[q].code_distances, expected.stats[q].code_distances);
    CHECK_EQ(found.stats[q].full_distances, expected.stats[q].full_distances);
  }
}

void check_index(const Index& index, const std::vector<float>& queries) {
  for (SearchParams params : {SearchParams{.k = 10, .width = 3}, SearchParams{.k = 1, .width = 1},
                              SearchParams{.k = 10, .width = 40},
                              SearchParams{.k = 5, .width = 2'000, .rerank = 3'000}}) {
    const search::QuerySearch search(index.parts(), params, simd::active_kernels());
    search::Interleaver together(search);
    for (size_t rows = 1; rows <= 9; ++rows) {
      const MatrixView view{queries.data(), rows, kDim, Dtype::f32};
      Answers expected(rows, params.k), found(rows, params.k), threaded(rows, params.k);
      for (size_t q = 0; q < rows; ++q) {
        search::QueryScratch scratch(search.stride());
        search.start(view.row(q), scratch);
        while (!search.step(scratch)) {
        }
        expected.stats[q] =
            search.finish(scratch, &expected.ids[q * params.k], &expected.distances[q * params.k]);
      }
      together.run(view, 0, rows, found.output());
      check_same(found, expected);
      // In two runs of the same memory.
      Answers halves(rows, params.k);
      together.run(view, 0, rows / 2, halves.output());
      together.run(view, rows / 2, rows, halves.output());
      check_same(halves, expected);
      Monitor monitor;
      params.threads = 3;
      index.search(view, params, threaded.output(), monitor);
      check_same(threaded, expected);
    }
  }
}

TEST(queries_together_answer_as_they_do_alone) {
  std::vector<float> base = check::random_vectors(1'509, kDim, 95);
  const std::vector<float> queries(base.end() - 9 * kDim, base.end());
  base.resize(1'500 * kDim);
  for (Metric metric : {Metric::l2, Metric::ip, Metric::cosine}) {
    for (uint32_t code_dim : {0u, 20u}) {
      Monitor monitor;
      check_index(Index::build({base.data(), 1'500, kDim, Dtype::f32}, nullptr,
                               {.metric = metric, .code_dim = code_dim}, monitor),
                  queries);
    }
  }
}

}  // namespace
}  // namespace bigrain
