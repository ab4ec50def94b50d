// SPDX-License-Identifier: Apache-2.0
#include "search/visited.h"

#include <set>

#include "check.h"
#include "util/rng.h"

namespace bigrain {
namespace {

TEST(a_vertex_is_new_once_while_it_keeps_its_slot) {
  search::Visited visited;
  for (size_t expected : {0u, 1u, 600u, 100'000u}) {
    visited.reset(expected);
    for (uint32_t id : {0u, 1u, 77u, 0x7ffffffeu}) {
      CHECK(visited.insert(id));
      CHECK(!visited.insert(id));
    }
    visited.reset(expected);
    for (uint32_t id : {0x7ffffffeu, 77u, 1u, 0u}) CHECK(visited.insert(id));
  }
}

// Never false for a vertex not seen, and rarely true for one seen.
TEST(it_may_forget_but_not_invent) {
  Rng rng(94);
  search::Visited visited;
  for (size_t expected : {100u, 3'000u}) {
    visited.reset(expected);
    std::set<uint32_t> seen;
    size_t forgotten = 0;
    for (size_t i = 0; i < expected; ++i) {
      const auto id = static_cast<uint32_t>(rng.bounded(2 * expected)) * 1'000;
      const bool is_new = visited.insert(id);
      if (seen.insert(id).second) {
        CHECK(is_new);
      } else {
        forgotten += is_new ? 1 : 0;
      }
    }
    CHECK(forgotten * 10 <= expected);
  }
}

TEST(reset_may_shrink_and_grow_the_table) {
  search::Visited visited;
  for (size_t expected : {size_t{1'000'000}, size_t{10}, size_t{100'000}, size_t{1} << 40}) {
    visited.reset(expected);
    for (uint32_t id = 0; id < 50; ++id) CHECK(visited.insert(id));
  }
}

}  // namespace
}  // namespace bigrain
