// SPDX-License-Identifier: Apache-2.0
#include "graph/repair.h"

#include <vector>

#include "check.h"
#include "graph_fixture.h"

namespace bigrain {
namespace {

size_t reached_from(const graph::Rows& rows, uint32_t entry) {
  std::vector<bool> reached(rows.count());
  std::vector<uint32_t> queue{entry};
  reached[entry] = true;
  for (size_t head = 0; head < queue.size(); ++head) {
    for (uint32_t next : rows.row(queue[head])) {
      if (!reached[next]) {
        reached[next] = true;
        queue.push_back(next);
      }
    }
  }
  return queue.size();
}

TEST(repair_reaches_every_point_of_any_graph) {
  constexpr size_t kCount = 120;
  const check::EncodedSet set(check::random_vectors(kCount, 6, 31), 6);
  Rng rng(7);
  Monitor monitor;
  for (size_t round = 0; round < 60; ++round) {
    graph::Rows rows(kCount, 2 + round % 4);
    for (uint32_t id = 0; id < kCount; ++id) {
      std::vector<uint32_t> row;
      for (size_t i = rng.bounded(rows.stride() + 1); i > 0; --i) {
        // Few targets: most points are reached by nobody, and rows are often full.
        const uint32_t neighbour = static_cast<uint32_t>(rng.bounded(20));
        if (neighbour != id && std::find(row.begin(), row.end(), neighbour) == row.end()) {
          row.push_back(neighbour);
        }
      }
      rows.assign(id, row);
    }
    const uint32_t entry = static_cast<uint32_t>(rng.bounded(kCount));
    graph::repair(rows, set.distances(), entry, 10, monitor);
    CHECK_EQ(reached_from(rows, entry), kCount);
    for (uint32_t id = 0; id < kCount; ++id) {
      std::vector<uint32_t> row(rows.row(id).begin(), rows.row(id).end());
      std::sort(row.begin(), row.end());
      CHECK(std::adjacent_find(row.begin(), row.end()) == row.end());
      CHECK(std::find(row.begin(), row.end(), id) == row.end());
    }
  }
}

}  // namespace
}  // namespace bigrain
