// SPDX-License-Identifier: Apache-2.0
// Randomized ball carving (PiPNN, arXiv 2602.21247, section 3): cuts a set into small
// neighbourhoods that overlap, so that near points meet in at least one of them.
//
// Steps: draw leaders; put every point into the balls of its `fanout` nearest leaders; do the same
// within each ball until a ball is small. Differs from the paper: the first level's leaders are as
// many as make balls of a few thousand points and the last level's as many as make balls of a
// leaf's size, instead of a fixed share; distances on 8-bit codes; small balls are not merged; a
// ball that does not shrink (copies of one point) is cut in the order of its ids.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "graph/code_tiles.h"
#include "util/monitor.h"

namespace bigrain::graph {

// Sets of points, one after another: set i is members[starts[i] .. starts[i + 1]).
struct PointSets {
  std::vector<uint32_t> members;
  std::vector<size_t> starts{0};

  size_t count() const { return starts.size() - 1; }
  std::span<const uint32_t> set(size_t i) const {
    return std::span(members).subspan(starts[i], starts[i + 1] - starts[i]);
  }
  void add(std::span<const uint32_t> points) {
    members.insert(members.end(), points.begin(), points.end());
    starts.push_back(members.size());
  }
};

struct CarvingParams {
  uint32_t fanout;  // balls of the first level that a point joins; 1 to 32
  uint64_t seed;
  uint32_t threads;
};

// Leaves of at most kMaxLeaf points that together hold each of `points`, distinct ids, at least
// once; most are in 3 * fanout of them. No leaf holds a point twice. The same for every number of
// threads.
inline constexpr size_t kMaxLeaf = 512;
PointSets carve(const TileSource& source, std::span<const uint32_t> points,
                const CarvingParams& params, Monitor& monitor);

}  // namespace bigrain::graph
