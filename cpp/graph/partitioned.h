// SPDX-License-Identifier: Apache-2.0
// Builds a graph without searching it (PiPNN, arXiv 2602.21247): points near each other meet in
// small leaves, where all distances are one product of matrices, and what a point meets are the
// candidates of one RobustPrune.
//
// Steps: copies are set aside (graph/copies.h); randomized ball carving (graph/ball_carving.h); in
// every leaf each point's few nearest are offered to it, and it to them (graph/leaf_neighbours.h);
// a point keeps the nearest of its offers (graph/reservoirs.h); one RobustPrune, reverse edges,
// rows cut to R (graph/linker.h); copies are tied to what stands for them; unreachable points are
// attached (graph/repair.h). Differs from the paper: all of it on 8-bit codes, whose tiles are
// exact in integers, so that the graph is the same on every instruction set; reservoirs keep the
// nearest distinct candidates instead of one per hash bucket; reverse edges of the chosen
// neighbours as in Vamana, without which hubs have no way in. Compared with build_vamana in
// bench/LOG.md, "partitioned".
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "graph/copies.h"
#include "graph/leaf_neighbours.h"
#include "graph/prune.h"
#include "graph/vamana.h"
#include "simd/kernels.h"
#include "util/buffer.h"
#include "util/monitor.h"

namespace bigrain::graph {

// What each point may be linked to, before any link is chosen.
struct Meeting {
  Copies copies;  // and those that follow a leader: they are not linked, but tied to their first
  Met met;

  // The nearest, in order, and the far ones; none that follows another.
  void read(uint32_t point, std::vector<search::ScoredId>& near,
            std::vector<search::ScoredId>& far) const;
};

// The steps up to there. `far`: far ones that a point keeps. The
// monitor, started by the caller, advances by `count`.
Meeting meet_points(const CodeDistances& distances, const simd::Kernels& kernels, size_t dim,
                    size_t count, uint32_t entry, const VamanaParams& params, size_t far,
                    Monitor& monitor);

// Candidates that a point keeps of those it met near: more of them cost time and made rows of
// farther ones (bench/LOG.md, "partitioned").
constexpr size_t near_capacity(uint32_t degree) { return size_t{degree} + degree / 2; }

// As build_vamana; params.width sets how many leaves a point lies in, 30 for 128. Memory on the
// way: about 25 R bytes per point, of which a third is touched only where points are in tight
// clusters, and 10 for each of those leaves.
Buffer build_partitioned(const CodeDistances& distances, const simd::Kernels& kernels, size_t dim,
                         size_t count, uint32_t entry, const VamanaParams& params,
                         Monitor& monitor);

}  // namespace bigrain::graph
