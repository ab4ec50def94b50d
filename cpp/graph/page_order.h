// SPDX-License-Identifier: Apache-2.0
// An order of points in which those that share a page are neighbours, so that a page that a search
// reads for one of them holds others that it wants.
//
// Starling (SIGMOD 2024) shuffles a graph's vertices into blocks so that neighbours share them, an
// NP-hard problem that it attacks with heuristics of its own. What differs: one greedy pass. Points
// are taken breadth first from the entry; each that has no page yet opens one, which is filled, one
// by one, with that neighbour of its points whose distances to all of them have the least sum (to
// the first point alone: a tenth more reads on GloVe). Points whose page did not fill (3 % of
// fashion-mnist) follow in the end.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/prune.h"
#include "search/greedy.h"
#include "util/monitor.h"

namespace bigrain::graph {

// order[i]: the point that comes i-th; pages are the runs of `per_page` of them. Every point occurs
// once. Throws Error(corrupt) on a row that names a point out of range.
std::vector<uint32_t> page_order(const CodeDistances& distances, const search::GraphView& graph,
                                 uint32_t entry, size_t per_page, Monitor& monitor);

}  // namespace bigrain::graph
