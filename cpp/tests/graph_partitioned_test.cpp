// SPDX-License-Identifier: Apache-2.0
// The partitioned build and its parts: leaves, reservoirs, graphs.
#include "graph/partitioned.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "bigrain/exact.h"
#include "bigrain/index.h"
#include "check.h"
#include "graph/ball_carving.h"
#include "graph/leaf_neighbours.h"
#include "graph/reservoirs.h"
#include "graph_fixture.h"

namespace bigrain {
namespace {

using graph::PointSets;

graph::TileSource source_of(const graph::CodeDistances& distances, const check::EncodedSet& set) {
  Monitor monitor;
  return {distances,
          simd::active_kernels(),
          set.parts.meta.dim,
          set.parts.meta.count,
          graph::Geometry::euclidean,
          2,
          monitor};
}

PointSets carve(const check::EncodedSet& set, uint64_t seed, uint32_t threads) {
  Monitor monitor;
  const graph::CodeDistances distances = set.distances();
  std::vector<uint32_t> ids(set.parts.meta.count);
  std::iota(ids.begin(), ids.end(), 0u);
  return graph::carve(source_of(distances, set), ids, {10, seed, threads}, monitor);
}

TEST(leaves_are_small_and_cover_every_point) {
  for (size_t count : {1u, 2u, 512u, 513u, 3'000u, 9'000u}) {
    const check::EncodedSet set(check::random_vectors(count, 10, 51), 10);
    const PointSets leaves = carve(set, 1, 1);
    std::vector<size_t> memberships(count);
    for (size_t i = 0; i < leaves.count(); ++i) {
      std::vector<uint32_t> leaf(leaves.set(i).begin(), leaves.set(i).end());
      CHECK(!leaf.empty() && leaf.size() <= graph::kMaxLeaf);
      std::sort(leaf.begin(), leaf.end());
      CHECK(std::adjacent_find(leaf.begin(), leaf.end()) == leaf.end());
      for (uint32_t point : leaf) ++memberships[point];
    }
    CHECK(*std::min_element(memberships.begin(), memberships.end()) >= 1);
    for (uint32_t threads : {2u, 7u}) {
      CHECK(carve(set, 1, threads).members == leaves.members);
      CHECK(carve(set, 1, threads).starts == leaves.starts);
    }
  }
}

TEST(copies_of_one_point_are_carved_too) {
  const check::EncodedSet set(std::vector<float>(5'000 * 3, 1.5f), 3);
  const PointSets leaves = carve(set, 0, 2);
  std::vector<bool> seen(5'000);
  for (size_t i = 0; i < leaves.count(); ++i) {
    CHECK(leaves.set(i).size() <= graph::kMaxLeaf);
    for (uint32_t point : leaves.set(i)) seen[point] = true;
  }
  CHECK(std::find(seen.begin(), seen.end(), false) == seen.end());
}

TEST(a_reservoir_keeps_the_nearest_whatever_the_order) {
  struct Offer {
    float distance;
    uint32_t id;
  };
  std::vector<Offer> offers;
  Rng rng(3);
  for (uint32_t id = 0; id < 200; ++id) {
    const float distance = static_cast<float>(rng.bounded(40)) - 20;  // ties, zero, negative ones
    for (size_t copies = 0; copies <= rng.bounded(3); ++copies) offers.push_back({distance, id});
  }
  std::vector<search::ScoredId> expected, found;
  for (size_t round = 0; round < 20; ++round) {
    shuffle(std::span(offers), rng);
    graph::Reservoirs reservoirs(3, 30);
    for (const Offer& offer : offers) reservoirs.offer(1, offer.distance, offer.id);
    found.clear();
    reservoirs.read(1, found);
    if (round == 0) expected = found;
    CHECK_EQ(found.size(), 30u);
    for (size_t i = 0; i < found.size(); ++i) {
      CHECK_EQ(found[i].id, expected[i].id);
      CHECK_EQ(found[i].score, expected[i].score);
      if (i != 0) CHECK(found[i - 1].score <= found[i].score);
    }
    found.clear();
    reservoirs.read(0, found);
    CHECK(found.empty());
  }
  for (const Offer& offer : offers) {
    if (offer.distance < expected.back().score) {
      CHECK(std::any_of(expected.begin(), expected.end(),
                        [&](const auto& kept) { return kept.id == offer.id; }));
    }
  }
}

TEST(of_copies_in_a_leaf_only_the_first_meets_others) {
  // 40 copies of each of 5 points on a line.
  std::vector<float> vectors;
  for (size_t i = 0; i < 200; ++i) vectors.push_back(static_cast<float>(i % 5 * 10));
  const check::EncodedSet set(vectors, 1);
  const graph::CodeDistances distances = set.distances();
  const graph::TileSource source = source_of(distances, set);
  std::vector<uint32_t> leaf(200);
  for (uint32_t i = 0; i < 200; ++i) leaf[i] = i;
  graph::Met met(200, 300, 32, 7);
  graph::LeafNeighbours(source, 4, met).offer(leaf);
  std::vector<search::ScoredId> found;
  for (uint32_t i = 0; i < 200; ++i) {
    found.clear();
    met.near.read(i, found);
    // The entry follows nobody.
    CHECK_EQ(met.leaders.of(i), i == 7 ? 7 : i % 5);
    CHECK_EQ(found.empty(), i >= 5 && i != 7);
    for (const auto& kept : found) CHECK_NEAR(kept.score, set.distance(i, kept.id), 1e-3);
  }
}

MatrixView view_of(const std::vector<float>& vectors, size_t dim) {
  return {vectors.data(), vectors.size() / dim, dim, Dtype::f32};
}

Index build(const std::vector<float>& vectors, size_t dim, BuildParams params) {
  Monitor monitor;
  params.builder = Builder::partitioned;
  return Index::build(view_of(vectors, dim), nullptr, params, monitor);
}

TEST(a_partitioned_build_does_not_depend_on_threads) {
  const std::vector<float> vectors = check::random_vectors(6'000, 20, 52);
  for (Metric metric : {Metric::l2, Metric::ip}) {
    const auto bytes = [&](uint32_t threads, uint64_t seed) {
      return build(vectors, 20, {.metric = metric, .seed = seed, .threads = threads}).to_bytes();
    };
    const std::vector<std::byte> expected = bytes(1, 0);
    CHECK(bytes(2, 0) == expected);
    CHECK(bytes(7, 0) == expected);
    CHECK(bytes(2, 1) != expected);
  }
}

double recall_of(const Index& index, const std::vector<float>& base,
                 const std::vector<float>& queries, size_t dim, Metric metric, uint32_t width) {
  Monitor monitor;
  const size_t rows = queries.size() / dim;
  std::vector<int64_t> truth(rows * 10), ids(rows * 10);
  std::vector<float> distances(rows * 10), found(rows * 10);
  exact_search(view_of(base, dim), view_of(queries, dim), metric, 10, 2, truth.data(),
               distances.data(), monitor);
  index.search(view_of(queries, dim), {.k = 10, .width = width},
               {ids.data(), found.data(), nullptr}, monitor);
  size_t hits = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    // By distance, as copies are as good as each other.
    hits += found[i] <= distances[i / 10 * 10 + 9] * (1 + 1e-5f) ? 1 : 0;
  }
  return static_cast<double>(hits) / static_cast<double>(truth.size());
}

TEST(a_partitioned_graph_finds_what_exact_search_finds) {
  const size_t dim = 24;
  std::vector<float> base = check::random_vectors(8'200, dim, 53);
  const std::vector<float> queries(base.end() - 200 * dim, base.end());
  base.resize(8'000 * dim);
  for (Metric metric : {Metric::l2, Metric::cosine}) {
    const Index index = build(base, dim, {.metric = metric});
    Monitor monitor;
    CHECK(index.validate(monitor).problems.empty());
    CHECK_EQ(index.validate(monitor).unreachable, 0u);
    CHECK(recall_of(index, base, queries, dim, metric, 60) >= 0.98);
  }
}

TEST(degenerate_sets_can_be_partitioned) {
  for (size_t count : {0u, 1u, 2u, 3u, 40u, 700u}) {
    for (size_t distinct : {size_t{1}, size_t{2}, count}) {
      for (Metric metric : {Metric::l2, Metric::ip}) {
        std::vector<float> vectors;
        for (size_t i = 0; i < count; ++i)
          vectors.push_back(static_cast<float>(i % std::max<size_t>(distinct, 1)));
        const Index index = build(vectors, 1, {.metric = metric, .degree = 4});
        Monitor monitor;
        const ValidationReport report = index.validate(monitor);
        CHECK(report.problems.empty());
        CHECK_EQ(report.unreachable, 0u);
      }
    }
  }
}

TEST(a_partitioned_build_can_be_cancelled_at_any_poll) {
  const std::vector<float> vectors = check::random_vectors(20'000, 32, 55);
  for (int polls : {0, 1, 3}) {
    int left = polls;
    Monitor monitor([&](uint64_t done, uint64_t total) {
      CHECK(done <= total);
      return left-- > 0;
    });
    CHECK_THROWS(Index::build(view_of(vectors, 32), nullptr,
                              {.builder = Builder::partitioned, .threads = 1}, monitor),
                 ErrorKind::cancelled);
  }
}

}  // namespace
}  // namespace bigrain
