// SPDX-License-Identifier: Apache-2.0
// The nearest neighbours of every point within one leaf, by all distances of the leaf.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "graph/code_tiles.h"
#include "graph/copies.h"
#include "graph/reservoirs.h"

namespace bigrain::graph {

// What the points of all leaves have met.
struct Met {
  Met(size_t count, size_t near_capacity, size_t far_capacity, uint32_t entry)
      : near(count, near_capacity), far(count, far_capacity), leaders(count, entry) {}

  Reservoirs near;  // the nearest
  // Past a gap, seen from a point of a tight cluster, whose nearest are all of the cluster. Taken
  // from samples, and no more than one from a leaf, so that they lie in many places.
  Reservoirs far;
  Leaders leaders;  // of points that codes hardly tell apart
};

// Where points are nearer to each other than the rounding to codes, only the first of them takes
// part: a leaf full of near copies would otherwise show its points nothing but copies.
class LeafNeighbours {
 public:
  // `nearest`: neighbours per point, 1 to 32.
  LeafNeighbours(const TileSource& source, size_t nearest, Met& met)
      : source_(source), nearest_(nearest), met_(met) {}

  // Offers every point its nearest in the leaf, and itself to each of them; and a far one.
  void offer(std::span<const uint32_t> leaf);

 private:
  bool compare(std::span<const uint32_t> leaf);
  void put_sample_first(std::span<const uint32_t> leaf);
  void for_each_row(const std::function<void(size_t row, float* distances)>& body);
  void take_out_copies(std::span<const uint32_t> leaf);
  void find_far(size_t row, const float* distances);
  float blur(size_t row) const;
  bool chose(size_t row, size_t other, float distance) const;

  const TileSource& source_;
  size_t nearest_;
  Met& met_;
  std::vector<uint32_t> leaf_, roots_;
  Panels panels_;
  std::vector<simd::TileRow> rows_;
  std::vector<float> distances_;  // of one tile of rows to the leaf
  std::vector<float> kept_;       // per row: its nearest, in order
  std::vector<uint32_t> places_;  // their places in the leaf
  std::vector<uint32_t> counts_;  // how many
  std::vector<float> far_distances_;
  std::vector<uint32_t> far_places_;
};

}  // namespace bigrain::graph
