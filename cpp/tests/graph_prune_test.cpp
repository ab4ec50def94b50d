// SPDX-License-Identifier: Apache-2.0
#include "graph/prune.h"

#include <algorithm>
#include <vector>

#include "check.h"
#include "graph/reverse_edges.h"
#include "graph_fixture.h"

namespace bigrain {
namespace {

// The definition, one distance at a time: rounds of alpha 1, 1.05, ... up to the last.
std::vector<uint32_t> naive_prune(const check::EncodedSet& set, uint32_t point,
                                  std::vector<uint32_t> candidates, float alpha, size_t degree) {
  std::sort(candidates.begin(), candidates.end());
  candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
  std::stable_sort(candidates.begin(), candidates.end(), [&](uint32_t a, uint32_t b) {
    return set.distance(point, a) < set.distance(point, b);
  });
  std::vector<size_t> chosen_at;
  std::vector<uint32_t> chosen;
  const float last = alpha * alpha;
  for (float limit = std::min(1.0f, last);; limit = std::min(limit * (1.05f * 1.05f), last)) {
    for (size_t i = 0; i < candidates.size() && chosen.size() < degree; ++i) {
      if (std::find(chosen_at.begin(), chosen_at.end(), i) != chosen_at.end()) continue;
      const bool occluded = std::any_of(chosen_at.begin(), chosen_at.end(), [&](size_t c) {
        return c < i && set.distance(point, candidates[i]) >
                            limit * set.distance(candidates[c], candidates[i]);
      });
      if (occluded) continue;
      chosen_at.push_back(i);
      chosen.push_back(candidates[i]);
    }
    if (limit >= last) return chosen;
  }
}

TEST(robust_prune_equals_its_definition) {
  const check::EncodedSet set(check::random_vectors(200, 12, 21), 12);
  graph::PruneScratch scratch(set.stride());
  Rng rng(5);
  for (uint32_t point = 0; point < 200; ++point) {
    const float alpha = std::array{0.9f, 1.0f, 1.1f, 1.2f, 1.5f}[point % 5];
    const size_t degree = 1 + rng.bounded(20);
    std::vector<uint32_t> ids;
    std::vector<search::ScoredId> candidates;
    for (size_t i = 0; i < 80; ++i) {  // with repeats
      const uint32_t id = static_cast<uint32_t>(rng.bounded(200));
      if (id == point) continue;
      ids.push_back(id);
      candidates.push_back({set.distance(point, id), id});
    }
    std::vector<uint32_t> chosen(degree);
    chosen.resize(
        graph::robust_prune(set.distances(), candidates, alpha, degree, scratch, chosen.data()));
    CHECK(chosen == naive_prune(set, point, ids, alpha, degree));
  }
}

TEST(robust_prune_of_copies_keeps_one) {
  std::vector<float> vectors(40 * 3, 1.0f);
  vectors.insert(vectors.end(), {2, 2, 2});
  const check::EncodedSet set(vectors, 3);
  graph::PruneScratch scratch(set.stride());
  std::vector<search::ScoredId> candidates;
  for (uint32_t id = 1; id <= 40; ++id) candidates.push_back({set.distance(0, id), id});
  std::vector<uint32_t> chosen(8);
  chosen.resize(graph::robust_prune(set.distances(), candidates, 1.2f, 8, scratch, chosen.data()));
  CHECK_EQ(chosen.size(), 2u);
  CHECK_EQ(chosen.back(), 40u);
}

TEST(edges_are_grouped_by_target_in_order) {
  Rng rng(6);
  for (uint64_t range : {1u, 5u, 3'000u, 5'000'000u}) {
    std::vector<graph::Edge> edges, scratch;
    for (uint32_t i = 0; i < 4'000; ++i) {
      edges.push_back({static_cast<uint32_t>(rng.bounded(range)), i});
    }
    std::vector<graph::Edge> expected = edges;
    std::stable_sort(
        expected.begin(), expected.end(),
        [](const graph::Edge& a, const graph::Edge& b) { return a.target < b.target; });
    std::vector<uint32_t> groups;
    graph::group_by_target(edges, scratch, groups);
    CHECK_EQ(groups.back(), edges.size());
    size_t group = 0;
    for (size_t i = 0; i < edges.size(); ++i) {
      CHECK(edges[i].target == expected[i].target && edges[i].source == expected[i].source);
      if (i == 0 || edges[i].target != edges[i - 1].target) CHECK_EQ(groups[group++], i);
    }
    CHECK_EQ(group + 1, groups.size());
  }
}

}  // namespace
}  // namespace bigrain
