// SPDX-License-Identifier: Apache-2.0
// Sets full of copies and near copies: groups, trees, recall.
#include "graph/copies.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

#include "bigrain/exact.h"
#include "bigrain/index.h"
#include "check.h"
#include "graph_fixture.h"

namespace bigrain {
namespace {

constexpr size_t kDim = 12;

MatrixView view_of(const std::vector<float>& vectors) {
  return {vectors.data(), vectors.size() / kDim, kDim, Dtype::f32};
}

Index build(const std::vector<float>& vectors, BuildParams params) {
  Monitor monitor;
  return Index::build(view_of(vectors), nullptr, params, monitor);
}

// Vector i % distinct, plus noise.
std::vector<float> repeat(const std::vector<float>& distinct, size_t times, float noise = 0) {
  std::vector<float> base;
  for (size_t i = 0; i < times; ++i) base.insert(base.end(), distinct.begin(), distinct.end());
  Rng rng(77);
  for (float& value : base) value += noise * (rng.uniform() - 0.5f);
  return base;
}

double recall_of(const Index& index, const std::vector<float>& base,
                 const std::vector<float>& queries, Metric metric, uint32_t width) {
  Monitor monitor;
  const size_t rows = queries.size() / kDim;
  std::vector<int64_t> ids(rows * 10);
  std::vector<float> truth(rows * 10), found(rows * 10);
  exact_search(view_of(base), view_of(queries), metric, 10, 2, ids.data(), truth.data(), monitor);
  index.search(view_of(queries), {.k = 10, .width = width}, {ids.data(), found.data(), nullptr},
               monitor);
  size_t hits = 0;  // by distance, as copies are as good as each other
  for (size_t i = 0; i < found.size(); ++i) {
    hits += found[i] <= truth[i / 10 * 10 + 9] + 1e-6f ? 1 : 0;
  }
  return static_cast<double>(hits) / static_cast<double>(found.size());
}

TEST(equal_records_are_grouped_under_the_first_or_the_entry) {
  const std::vector<float> base = repeat(check::random_vectors(7, kDim, 1), 5);
  const check::EncodedSet set(base, kDim);
  for (uint32_t threads : {1u, 3u}) {
    Monitor monitor;
    const graph::Copies copies = graph::find_copies(set.codes(), 35, 16, threads, monitor);
    CHECK(copies.firsts == (std::vector<uint32_t>{0, 1, 3, 4, 5, 6, 16}));
    CHECK_EQ(copies.others.size(), 28u);
    CHECK_EQ(copies.groups.size(), 8u);
    for (const graph::Edge& edge : copies.others) {
      CHECK_EQ(edge.source % 7, edge.target % 7);
      CHECK_EQ(edge.target, edge.source % 7 == 2 ? 16 : edge.source % 7);
    }
  }
}

TEST(multiples_of_a_vector_are_no_copies) {
  std::vector<float> base = check::random_vectors(1, kDim, 2);
  for (size_t j = 0; j < kDim; ++j) base.push_back(1.01f * base[j]);
  const check::EncodedSet set(base, kDim, Metric::ip);
  Monitor monitor;
  CHECK_EQ(graph::find_copies(set.codes(), 2, 0, 1, monitor).firsts.size(), 2u);
}

TEST(whoever_finds_the_first_finds_every_copy) {
  for (size_t degree : {2u, 3u, 8u, 32u}) {
    graph::Rows rows(1'000, degree);
    graph::Copies copies;
    copies.firsts = {0, 1};
    const std::vector<uint32_t> other{1}, back{0};
    rows.assign(0, other);
    rows.assign(1, back);
    for (uint32_t i = 2; i < 1'000; ++i) copies.others.push_back({0, i});
    copies.groups = {0, 998};
    Monitor monitor;
    graph::attach_copies(copies, rows, monitor);
    std::set<uint32_t> seen{0};
    std::vector<uint32_t> queue{0};
    for (size_t head = 0; head < queue.size(); ++head) {
      for (uint32_t id : rows.row(queue[head])) {
        CHECK(id != queue[head]);
        if (seen.insert(id).second) queue.push_back(id);
      }
    }
    CHECK_EQ(seen.size(), 1'000u);
    CHECK_EQ(rows.row(0)[1], 1u);
  }
}

TEST(the_least_leader_is_followed_unless_it_follows_another) {
  graph::Leaders leaders(10, 4);
  CHECK(leaders.offer(9, 7) && leaders.offer(9, 3) && leaders.offer(9, 5));
  CHECK(!leaders.offer(4, 1));
  CHECK(leaders.offer(3, 2) && leaders.offer(8, 4));
  CHECK_EQ(leaders.of(9), 9u);
  CHECK_EQ(leaders.of(3), 2u);
  CHECK_EQ(leaders.of(8), 4u);
  CHECK_EQ(leaders.of(4), 4u);
  graph::Copies copies{{0, 1, 2, 3, 4, 5, 8, 9}, {{3, 6}, {3, 7}}, {0, 2}};
  graph::join_followers(leaders, copies);
  CHECK(copies.firsts == (std::vector<uint32_t>{0, 1, 2, 4, 5, 9}));
  CHECK(copies.groups == (std::vector<uint32_t>{0, 3, 4}));
}

struct Case {
  size_t distinct, times;
  float noise;
  double at_10, at_20, at_64;  // floors: what was measured, less .01
};

TEST(copies_do_not_shut_points_in) {
  const Case cases[] = {
      {400, 20, 0, .88, .95, .99},      {4'000, 3, 0, .97, .985, .99},
      {20, 400, 0, .98, .98, .98},      {400, 20, 2e-3f, .815, .965, .99},
      {400, 20, 6e-2f, .91, .975, .99},
  };
  for (const Case& c : cases) {
    std::vector<float> distinct = check::random_vectors(c.distinct + 200, kDim, 54);
    const std::vector<float> queries(distinct.begin() + c.distinct * kDim, distinct.end());
    distinct.resize(c.distinct * kDim);
    const std::vector<float> base = repeat(distinct, c.times, c.noise);
    const Index index = build(base, {});
    Monitor monitor;
    CHECK(index.validate(monitor).problems.empty());
    CHECK_EQ(index.validate(monitor).unreachable, 0u);
    CHECK(recall_of(index, base, queries, Metric::l2, 10) >= c.at_10);
    CHECK(recall_of(index, base, queries, Metric::l2, 20) >= c.at_20);
    CHECK(recall_of(index, base, queries, Metric::l2, 64) >= c.at_64);
  }
}

TEST(equal_points_are_all_found) {
  const std::vector<float> base(100'000 * kDim, 1.5f);
  for (Metric metric : {Metric::l2, Metric::ip}) {
    for (uint32_t degree : {2u, 32u}) {
      const Index index = build(base, {.metric = metric, .degree = degree});
      Monitor monitor;
      CHECK_EQ(index.validate(monitor).unreachable, 0u);
      std::vector<int64_t> ids(500);
      std::vector<float> distances(500);
      index.search({base.data(), 1, kDim, Dtype::f32}, {.k = 500},
                   {ids.data(), distances.data(), nullptr}, monitor);
      std::sort(ids.begin(), ids.end());
      CHECK(ids.front() >= 0);
      CHECK(std::adjacent_find(ids.begin(), ids.end()) == ids.end());
    }
  }
}

TEST(copies_do_not_make_builds_depend_on_threads) {
  for (float noise : {0.0f, 2e-3f, 6e-2f}) {
    const std::vector<float> base = repeat(check::random_vectors(900, kDim, 3), 6, noise);
    for (Metric metric : {Metric::l2, Metric::ip, Metric::cosine}) {
      const auto bytes = [&](uint32_t threads) {
        const Index index = build(base, {.metric = metric, .threads = threads});
        Monitor monitor;
        CHECK_EQ(index.validate(monitor).unreachable, 0u);
        return index.to_bytes();
      };
      const std::vector<std::byte> expected = bytes(1);
      CHECK(bytes(2) == expected);
      CHECK(bytes(7) == expected);
    }
  }
}

}  // namespace
}  // namespace bigrain
