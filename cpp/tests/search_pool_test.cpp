// SPDX-License-Identifier: Apache-2.0
#include "search/pool.h"

#include <limits>
#include <set>

#include "check.h"
#include "search/visited.h"
#include "util/rng.h"

namespace bigrain {
namespace {

TEST(pool_keeps_the_best_in_order) {
  Rng rng(1);
  for (size_t round = 0; round < 300; ++round) {
    const uint32_t capacity = 1 + static_cast<uint32_t>(rng.bounded(40));
    search::Pool pool;
    pool.reset(capacity, capacity);
    std::set<std::pair<float, uint32_t>> model;
    for (size_t i = 0; i < 120; ++i) {
      // Few values: many ties, negative scores and repeats.
      const uint32_t id = static_cast<uint32_t>(rng.bounded(60));
      const float score = static_cast<float>(id % 7) - 3.0f;
      pool.insert(score, id);
      model.insert({score, id});
      if (model.size() > capacity) model.erase(std::prev(model.end()));
    }
    // A full pool refuses ties with its worst, which the model takes by id: compare scores.
    CHECK_EQ(pool.size(), model.size());
    size_t i = 0;
    for (const auto& [score, id] : model) CHECK_EQ(pool.score(i++), score);
  }
}

TEST(pool_expands_each_entry_of_the_window_once) {
  search::Pool pool;
  pool.reset(3, 5);
  for (uint32_t id : {5u, 4u, 3u, 2u, 1u}) pool.insert(static_cast<float>(id), id);
  CHECK_EQ(pool.pop(), 1u);
  CHECK_EQ(pool.pop(), 2u);
  pool.insert(0.5f, 9);
  pool.insert(1.0f, 1);  // already there, and expanded
  CHECK_EQ(pool.pop(), 9u);
  CHECK(!pool.has_next());  // 9, 1, 2 fill the window
  CHECK_EQ(pool.size(), 5u);
}

TEST(pool_ends_at_its_limit_and_keeps_the_best) {
  search::Pool pool;
  pool.reset(8, 8);
  for (uint32_t id = 1; id <= 6; ++id) pool.insert(static_cast<float>(id), id);
  pool.limit(2.5f, 4);
  CHECK_EQ(pool.size(), 4u);  // 3 and 4 stay candidates
  pool.insert(4.5f, 7);
  CHECK_EQ(pool.size(), 4u);
  pool.insert(3.5f, 8);
  CHECK_EQ(pool.score(3), 3.5f);
  CHECK_EQ(pool.pop(), 1u);
  CHECK_EQ(pool.pop(), 2u);
  CHECK(!pool.has_next());  // though the window has room for 3
  pool.limit(9.0f, 0);      // a limit never rises
  CHECK(!pool.has_next());
  pool.limit(0.5f, 0);  // all that was expanded goes; the cursor lies beyond the end
  CHECK_EQ(pool.size(), 0u);
  pool.insert(0.25f, 9);
  CHECK(pool.has_next());
  CHECK_EQ(pool.pop(), 9u);
  pool.reset(8, 8);
  pool.insert(100.0f, 1);
  CHECK(pool.has_next());
}

TEST(pool_takes_neither_nan_nor_infinity) {
  search::Pool pool;
  pool.reset(4, 4);
  pool.insert(std::numeric_limits<float>::quiet_NaN(), 1);
  pool.insert(-std::numeric_limits<float>::quiet_NaN(), 2);
  pool.insert(std::numeric_limits<float>::infinity(), 3);
  CHECK_EQ(pool.size(), 0u);
}

TEST(visited_tells_new_from_seen) {
  search::Visited visited;
  Rng rng(2);
  for (size_t round = 0; round < 50; ++round) {
    visited.reset(1'000);
    std::set<uint32_t> seen;
    size_t forgotten = 0;
    for (size_t i = 0; i < 1'000; ++i) {
      const uint32_t id = static_cast<uint32_t>(rng.bounded(3'000));
      const bool is_new = seen.insert(id).second;
      const bool says_new = visited.insert(id);
      CHECK(says_new || !is_new);  // never calls an unseen vertex seen
      forgotten += says_new && !is_new ? 1 : 0;
    }
    CHECK(forgotten < 50);
  }
}

}  // namespace
}  // namespace bigrain
