// SPDX-License-Identifier: Apache-2.0
// The whole of build and search in C++: threads, degenerate sets, cancelling, damaged graphs.
#include <algorithm>
#include <limits>
#include <vector>

#include "bigrain/exact.h"
#include "bigrain/index.h"
#include "check.h"
#include "graph_fixture.h"

namespace bigrain {
namespace {

MatrixView view_of(const std::vector<float>& vectors, size_t dim) {
  return {vectors.data(), vectors.size() / dim, dim, Dtype::f32};
}

struct Found {
  std::vector<int64_t> ids;
  std::vector<float> distances;
};

Found search(const Index& index, const MatrixView& queries, uint32_t k, uint32_t width,
             uint32_t threads = 1) {
  Monitor monitor;
  Found found{std::vector<int64_t>(queries.rows * k), std::vector<float>(queries.rows * k)};
  SearchParams params;
  params.k = k;
  params.width = width;
  params.threads = threads;
  index.search(queries, params, {found.ids.data(), found.distances.data(), nullptr}, monitor);
  return found;
}

TEST(build_gives_the_same_bytes_for_every_number_of_threads) {
  const std::vector<float> vectors = check::random_vectors(3'000, 20, 41);
  Monitor monitor;
  BuildParams params;
  params.threads = 1;
  const std::vector<std::byte> expected =
      Index::build(view_of(vectors, 20), nullptr, params, monitor).to_bytes();
  for (uint32_t threads : {2u, 7u}) {
    params.threads = threads;
    const std::vector<std::byte> bytes =
        Index::build(view_of(vectors, 20), nullptr, params, monitor).to_bytes();
    CHECK(bytes == expected);
  }
  params.seed = 1;
  CHECK(Index::build(view_of(vectors, 20), nullptr, params, monitor).to_bytes() != expected);
}

TEST(search_finds_what_exact_search_finds) {
  const size_t dim = 24;
  std::vector<float> base = check::random_vectors(4'100, dim, 42);
  const std::vector<float> queries(base.end() - 100 * dim, base.end());
  base.resize(4'000 * dim);
  for (Metric metric : {Metric::l2, Metric::ip, Metric::cosine}) {
    Monitor monitor;
    BuildParams params;
    params.metric = metric;
    const Index index = Index::build(view_of(base, dim), nullptr, params, monitor);
    CHECK(index.validate(monitor).problems.empty());
    Found truth{std::vector<int64_t>(1'000), std::vector<float>(1'000)};
    exact_search(view_of(base, dim), view_of(queries, dim), metric, 10, 2, truth.ids.data(),
                 truth.distances.data(), monitor);
    const Found found = search(index, view_of(queries, dim), 10, 100);
    size_t hits = 0;
    for (size_t i = 0; i < truth.ids.size(); ++i) {
      const auto row = found.ids.begin() + static_cast<ptrdiff_t>(i / 10 * 10);
      hits += static_cast<size_t>(std::count(row, row + 10, truth.ids[i]));
    }
    CHECK(hits >= 970);
    const Found again = search(index, view_of(queries, dim), 10, 100, 7);
    CHECK(found.ids == again.ids);
    CHECK(found.distances == again.distances);
  }
}

TEST(degenerate_sets_build_and_every_point_is_found) {
  for (size_t dim : {1u, 3u}) {
    for (size_t count : {0u, 1u, 2u, 5u, 31u, 300u}) {
      for (size_t distinct : {size_t{1}, size_t{2}, count}) {
        std::vector<float> vectors;
        for (size_t i = 0; i < count * dim; ++i) {
          const size_t value = i / dim % std::max<size_t>(distinct, 1);
          vectors.push_back(static_cast<float>(value) * 10);
        }
        Monitor monitor;
        BuildParams params;
        params.degree = 4;
        const Index index =
            Index::build({vectors.data(), count, dim, Dtype::f32}, nullptr, params, monitor);
        const ValidationReport report = index.validate(monitor);
        CHECK(report.problems.empty());
        CHECK_EQ(report.unreachable, 0u);
        if (count == 0) continue;
        const uint32_t k = static_cast<uint32_t>(count) + 2;
        const Found found = search(index, view_of(vectors, dim), k, k);
        for (size_t row = 0; row < count; ++row) {
          std::vector<int64_t> ids(found.ids.begin() + static_cast<ptrdiff_t>(row * k),
                                   found.ids.begin() + static_cast<ptrdiff_t>(row * k + count));
          std::sort(ids.begin(), ids.end());
          for (size_t i = 0; i < count; ++i) CHECK_EQ(ids[i], i);
          CHECK_EQ(found.ids[row * k + count], -1);
          CHECK_EQ(found.distances[row * k + count], std::numeric_limits<float>::infinity());
          CHECK_EQ(found.distances[row * k], 0.0f);
        }
      }
    }
  }
}

TEST(a_build_can_be_cancelled_at_any_poll) {
  const std::vector<float> vectors = check::random_vectors(20'000, 32, 44);
  for (int polls : {0, 1, 3}) {
    int left = polls;
    Monitor monitor([&](uint64_t, uint64_t) { return left-- > 0; });
    CHECK_THROWS(Index::build(view_of(vectors, 32), nullptr, BuildParams{}, monitor),
                 ErrorKind::cancelled);
  }
}

TEST(a_damaged_graph_gives_an_error_and_no_answer) {
  const std::vector<float> vectors = check::random_vectors(500, 8, 45);
  Monitor monitor;
  const Index index = Index::build(view_of(vectors, 8), nullptr, BuildParams{}, monitor);
  uint32_t* graph = const_cast<IndexParts&>(index.parts()).graph.as<uint32_t>().data();
  graph[size_t{index.parts().meta.entry} * index.parts().meta.degree] = 500;
  CHECK(!index.validate(monitor).problems.empty());
  CHECK_THROWS(search(index, view_of(vectors, 8), 10, 50), ErrorKind::corrupt);
}

TEST(rows_can_be_replaced_and_put_back) {
  const std::vector<float> vectors = check::random_vectors(500, 8, 45);
  Monitor monitor;
  Index index = Index::build(view_of(vectors, 8), nullptr, BuildParams{}, monitor);
  const std::vector<std::byte> before = index.to_bytes();
  const uint32_t degree = index.parts().meta.degree;
  const uint32_t* graph = index.parts().graph.as<uint32_t>().data();
  const std::vector<uint32_t> points{3, 499};
  std::vector<uint32_t> saved(graph + 3 * degree, graph + 4 * degree);
  saved.insert(saved.end(), graph + 499 * degree, graph + 500 * degree);
  index.set_rows(points, std::vector<uint32_t>(2 * degree, 7).data());
  CHECK_EQ(graph[3 * degree], 7u);
  CHECK_EQ(graph[500 * degree - 1], 7u);
  index.set_rows(points, saved.data());
  CHECK(index.to_bytes() == before);
  const std::vector<uint32_t> beyond{3, 500};
  CHECK_THROWS(index.set_rows(beyond, saved.data()), ErrorKind::invalid_argument);
  CHECK(index.to_bytes() == before);
}

TEST(parameters_out_of_range_are_refused) {
  const std::vector<float> vectors = check::random_vectors(20, 8, 46);
  Monitor monitor;
  const auto build_with = [&](auto change) {
    BuildParams params;
    change(params);
    return Index::build(view_of(vectors, 8), nullptr, params, monitor);
  };
  const ErrorKind kind = ErrorKind::invalid_argument;
  CHECK_THROWS(build_with([](BuildParams& p) { p.degree = kMinDegree - 1; }), kind);
  CHECK_THROWS(build_with([](BuildParams& p) { p.degree = kMaxDegree + 1; }), kind);
  CHECK_THROWS(build_with([](BuildParams& p) { p.build_width = 0; }), kind);
  CHECK_THROWS(build_with([](BuildParams& p) { p.build_width = kMaxBuildWidth + 1; }), kind);
  CHECK_THROWS(build_with([](BuildParams& p) { p.alpha = 0.1f; }), kind);
  CHECK_THROWS(build_with([](BuildParams& p) { p.alpha = NAN; }), kind);
  const auto steep_ip = [](BuildParams& p) {
    p.metric = Metric::ip;
    p.alpha = 1.2f;
  };
  CHECK_THROWS(build_with(steep_ip), kind);
  const std::vector<float> long_row(8, 1e19f);
  CHECK_THROWS(Index::build(view_of(long_row, 8), nullptr, BuildParams{}, monitor), kind);
  CHECK_THROWS(build_with([](BuildParams& p) { p.threads = kMaxThreads + 1; }), kind);
  const std::vector<int64_t> twice(20, 3), negative{-1};
  CHECK_THROWS(Index::build(view_of(vectors, 8), twice.data(), BuildParams{}, monitor), kind);
  CHECK_THROWS(
      Index::build({vectors.data(), 1, 8, Dtype::f32}, negative.data(), BuildParams{}, monitor),
      kind);
  const Index index = build_with([](BuildParams&) {});
  CHECK_THROWS(search(index, view_of(vectors, 4), 1, 1), kind);
  CHECK_THROWS(search(index, {vectors.data(), 1, 8, Dtype::u8}, 1, 1), kind);
  CHECK_THROWS(search(index, view_of(vectors, 8), kMaxK + 1, 1), kind);
}

}  // namespace
}  // namespace bigrain
