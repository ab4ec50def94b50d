// SPDX-License-Identifier: Apache-2.0
// Groups the edges source -> target of one batch by target.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace bigrain::graph {

struct Edge {
  uint32_t target;
  uint32_t source;
};

// A stable radix sort by target (LSD, 11 bits a pass): equal targets keep their order, so that the
// groups do not depend on who found which edge. `groups` receives the start of each group and,
// last, the number of edges.
void group_by_target(std::vector<Edge>& edges, std::vector<Edge>& scratch,
                     std::vector<uint32_t>& groups);

}  // namespace bigrain::graph
