// SPDX-License-Identifier: Apache-2.0
// Points that codes cannot tell apart: one of each group stands for all of them while a graph is
// built, and the others are tied to it afterwards.
//
// Copies are each other's nearest. Left among the candidates they fill one another's rows, and a
// graph of them falls apart into cliques: 400 vectors 20 times gave recall .35 (bench/LOG.md,
// "copies").
// Steps: group equal records by a hash table; build on the first of each group; then a tree within
// each group, so that whoever finds the first finds them all; what is left of a copy's row is that
// of one of the first one's neighbours, a different one for every copy. A window full of copies
// then leads to as many places as a window of distinct points does.
// No paper: PiPNN (arXiv 2602.21247) says nothing of copies.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "graph/prune.h"
#include "graph/reverse_edges.h"
#include "graph/rows.h"
#include "util/monitor.h"

namespace bigrain::graph {

struct Copies {
  std::vector<uint32_t> firsts;  // one point of each group, ascending
  std::vector<Edge> others;      // target: the first, source: its copy; ascending
  std::vector<uint32_t> groups;  // where each target's begin in `others`, and their end
};

// Groups 0 .. count - 1 by equal records, scales included. `entry` is the first of its group, of
// other groups the least id is. The same for every number of threads.
Copies find_copies(const search::CodesView& codes, size_t count, uint32_t entry, uint32_t threads,
                   Monitor& monitor);

// Who stands for a point among those too near to tell apart; itself at first. From any number of
// threads: the least id that is offered, whatever the order.
class Leaders {
 public:
  Leaders(size_t count, uint32_t entry);

  // Any thread. False, and nothing changes, for the entry, which follows nobody.
  bool offer(uint32_t point, uint32_t leader);
  // The leader, where it follows nobody itself; else the point. Only once all offers are made.
  uint32_t of(uint32_t point) const;

 private:
  uint32_t entry_;
  std::unique_ptr<std::atomic<uint32_t>[]> leaders_;
};

// Adds to `copies` those of its firsts that follow a leader.
void join_followers(const Leaders& leaders, Copies& copies);

// Ties copies to rows of their firsts, nearest first, that name firsts only. Rows of firsts lose
// their farthest edge where they are full. Rows need a stride of 2 at least.
void attach_copies(const Copies& copies, Rows& rows, Monitor& monitor);
void attach_copies(const Copies& copies, RowStore& rows, Monitor& monitor);

}  // namespace bigrain::graph
