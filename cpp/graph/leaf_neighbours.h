// SPDX-License-Identifier: Apache-2.0
// The nearest neighbours of every point within one leaf, by all distances of the leaf.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "graph/code_tiles.h"
#include "graph/reservoirs.h"

namespace bigrain::graph {

// Copies of a point count as one neighbour: however many copies lie in a leaf, a point meets the
// next one only (in the leaf's order, the last one meeting the first) and then others. So a set
// full of copies keeps its ways out.
class LeafNeighbours {
 public:
  // `nearest`: neighbours per point, 1 to 32.
  LeafNeighbours(const TileSource& source, size_t nearest) : source_(source), nearest_(nearest) {}

  // Offers every point its nearest in the leaf, and itself to each of them.
  void offer(std::span<const uint32_t> leaf, Reservoirs& reservoirs);

 private:
  void find(size_t row, float* distances);
  void hide_copies(size_t row, float* distances) const;
  bool chose(size_t row, size_t other, float distance) const;

  const TileSource& source_;
  size_t nearest_;
  Panels panels_;
  std::vector<simd::TileRow> rows_;
  std::vector<float> distances_;  // of one tile of rows to the leaf
  std::vector<float> kept_;       // per row: its nearest, in order
  std::vector<uint32_t> places_;  // their places in the leaf
  std::vector<uint32_t> counts_;  // how many
};

}  // namespace bigrain::graph
