// SPDX-License-Identifier: Apache-2.0
// Makes every point reachable from the entry: pruning may leave a point, or a far cluster, without
// an edge that leads to it.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/prune.h"
#include "graph/rows.h"
#include "util/monitor.h"

namespace bigrain::graph {

// Breadth-first from the entry; each point not reached gets an edge from a reached vertex found by
// a search of width `width`: in a free slot, else in place of that vertex's farthest edge that is
// not part of the search tree. Tree edges are never replaced, so nothing reached is lost, and as a
// tree on m vertices has m - 1 edges, some reached vertex always has room. Rows need a stride of 2
// at least. Deterministic.
void repair(Rows& rows, const CodeDistances& distances, uint32_t entry, uint32_t width,
            Monitor& monitor);

}  // namespace bigrain::graph
