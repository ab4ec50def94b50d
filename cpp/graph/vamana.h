// SPDX-License-Identifier: Apache-2.0
// Builds a Vamana graph (DiskANN, NeurIPS 2019) in parallel batches (ParlayANN, PPoPP 2024, section
// 4.1): the points of a batch search the graph as it was before the batch, choose their neighbours,
// and then every target takes its new reverse edges in one go. No locks, and the same graph for
// every number of threads.
//
// Steps: random order; batches that double up to 2 % of n; per point greedy search -> RobustPrune;
// reverse edges grouped by target, pruned only when a row outgrows R by the slack; last, every row
// is pruned to R and unreachable points are attached (graph/repair.h).
// Differs from the papers: one pass instead of two, which cost more than they gave (bench/LOG.md);
// distances on 8-bit codes; the first batch starts from the medoid alone, so no random initial
// graph is needed.
#pragma once

#include <cstdint>

#include "graph/prune.h"
#include "util/buffer.h"
#include "util/monitor.h"

namespace bigrain::graph {

struct VamanaParams {
  uint32_t degree;  // R
  uint32_t width;   // L
  float alpha;
  uint64_t seed;
  uint32_t threads;
};

// n x R uint32 rows, padded with the vertex's own id, nearest neighbours first. `entry` is where
// searches start; count > 0.
Buffer build_vamana(const CodeDistances& distances, size_t count, uint32_t entry,
                    const VamanaParams& params, Monitor& monitor);

}  // namespace bigrain::graph
