// SPDX-License-Identifier: Apache-2.0
#include "graph/leaf_neighbours.h"

#include <algorithm>
#include <limits>

namespace bigrain::graph {

namespace {

constexpr float kNever = std::numeric_limits<float>::infinity();

}  // namespace

void LeafNeighbours::offer(std::span<const uint32_t> leaf, Reservoirs& reservoirs) {
  panels_.pack(source_, leaf);
  rows_.resize(leaf.size());
  for (size_t i = 0; i < leaf.size(); ++i) rows_[i] = source_.row(leaf[i]);
  const size_t tile = source_.kernels().code_tile_rows, columns = panels_.columns();
  distances_.resize(tile * columns);
  kept_.resize(leaf.size() * nearest_);
  places_.resize(leaf.size() * nearest_);
  counts_.resize(leaf.size());
  for (size_t begin = 0; begin < leaf.size(); begin += tile) {
    const size_t count = std::min(tile, leaf.size() - begin);
    panels_.distances(source_, std::span(rows_).subspan(begin, count), distances_.data());
    for (size_t i = 0; i < count; ++i) find(begin + i, &distances_[i * columns]);
  }
  for (size_t row = 0; row < leaf.size(); ++row) {
    for (size_t i = row * nearest_; i < row * nearest_ + counts_[row]; ++i) {
      const size_t other = places_[i];
      reservoirs.offer(leaf[row], kept_[i], leaf[other]);
      // Where the other one chose this one too, it makes the same offer itself.
      if (!chose(other, row, kept_[i])) reservoirs.offer(leaf[other], kept_[i], leaf[row]);
    }
  }
}

void LeafNeighbours::find(size_t row, float* distances) {
  distances[row] = kNever;
  float* const kept = &kept_[row * nearest_];
  uint32_t* const places = &places_[row * nearest_];
  size_t count = source_.kernels().smallest(distances, panels_.columns(), nearest_, kept, places);
  if (count >= 2 && kept[1] == 0) {
    hide_copies(row, distances);
    count = source_.kernels().smallest(distances, panels_.columns(), nearest_, kept, places);
  }
  counts_[row] = static_cast<uint32_t>(count);
}

// All but the next one.
void LeafNeighbours::hide_copies(size_t row, float* distances) const {
  size_t next = row;
  do {
    next = next + 1 == panels_.count() ? 0 : next + 1;
  } while (distances[next] != 0);
  std::replace(distances, distances + panels_.count(), 0.0f, kNever);
  distances[next] = 0;
}

// Is `other` among the nearest of `row`, at this distance?
bool LeafNeighbours::chose(size_t row, size_t other, float distance) const {
  const size_t begin = row * nearest_, end = begin + counts_[row];
  if (begin == end || distance > kept_[end - 1]) return false;
  const auto places = places_.begin();
  return std::find(places + static_cast<ptrdiff_t>(begin), places + static_cast<ptrdiff_t>(end),
                   other) != places + static_cast<ptrdiff_t>(end);
}

}  // namespace bigrain::graph
