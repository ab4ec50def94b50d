// SPDX-License-Identifier: Apache-2.0
// What every build does once it knows candidates: prune each point's to a row, give every chosen
// neighbour its reverse edge, and in the end cut rows to R.
//
// Batches as in ParlayANN (PPoPP 2024, section 4.1): the points of a batch choose their rows, then
// every target takes its new reverse edges in one go and is pruned only when it outgrows R by the
// slack. No locks, and the same rows for every number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "graph/prune.h"
#include "graph/reverse_edges.h"
#include "graph/rows.h"
#include "search/greedy.h"
#include "util/monitor.h"

namespace bigrain::graph {

struct LinkParams {
  uint32_t degree;  // R
  float alpha;
  uint32_t threads;
};

// The memory of one thread.
struct LinkWorker {
  explicit LinkWorker(size_t stride) : prune(stride), pivot(stride) {}

  search::GreedyScratch greedy;
  PruneScratch prune;
  Pivot pivot;
  std::vector<search::ScoredId> candidates;  // distance to the point, id
  std::vector<uint32_t> row;
  std::vector<float> to_row;
};

class Linker {
 public:
  // Leaves in worker.candidates what the point may be linked to, itself not among it.
  using FindCandidates = std::function<void(uint32_t point, LinkWorker& worker)>;

  Linker(const CodeDistances& distances, size_t count, const LinkParams& params, Monitor& monitor);

  const Rows& rows() const { return rows_; }
  // The rows of a batch of points, chosen by prune; nothing changes yet, so that all of them may
  // look at the rows as they are.
  void choose(std::span<const uint32_t> batch, const FindCandidates& find);
  // Writes the chosen rows and their reverse edges.
  void connect();
  // Rows of at most R, nearest first.
  Rows finish();

 private:
  LinkWorker& worker(uint32_t index);
  // Edges from the batch to targets in [first, last).
  void collect_edges(uint32_t first, uint32_t last);
  void add_reverse_edges(std::span<const Edge> edges, LinkWorker& w);
  void prune_row(uint32_t point, LinkWorker& w);
  void sort_row(uint32_t point, LinkWorker& w);
  void score_row(uint32_t point, LinkWorker& w);
  void for_each(size_t count, const std::function<void(size_t i, LinkWorker& w)>& body);

  const CodeDistances& distances_;
  LinkParams params_;
  Monitor& monitor_;
  Rows rows_;
  std::vector<std::unique_ptr<LinkWorker>> workers_;
  std::vector<uint32_t> batch_, chosen_, chosen_counts_, groups_;
  std::vector<Edge> edges_, edge_scratch_;
};

}  // namespace bigrain::graph
