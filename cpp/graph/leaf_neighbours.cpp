// SPDX-License-Identifier: Apache-2.0
#include "graph/leaf_neighbours.h"

#include <algorithm>
#include <limits>

#include "util/rng.h"

namespace bigrain::graph {

namespace {

constexpr float kNever = std::numeric_limits<float>::infinity();
// bench/LOG.md, "copies": points of a leaf's sample, and what a gap is, in squared distances.
constexpr size_t kSample = kColumnMultiple;
constexpr float kGap = 8;
constexpr uint64_t kSampleStream = uint64_t{1} << 32;  // past those of the leaders

}  // namespace

void LeafNeighbours::offer(std::span<const uint32_t> leaf) {
  if (!compare(leaf)) {
    take_out_copies(leaf);
    compare(roots_);
  }
  for (size_t row = 0; row < leaf_.size(); ++row) {
    for (size_t i = row * nearest_; i < row * nearest_ + counts_[row]; ++i) {
      const size_t other = places_[i];
      met_.near.offer(leaf_[row], kept_[i], leaf_[other]);
      // Where the other one chose this one too, it makes the same offer itself.
      if (!chose(other, row, kept_[i])) met_.near.offer(leaf_[other], kept_[i], leaf_[row]);
    }
    if (far_places_[row] != row) {
      met_.far.offer(leaf_[row], far_distances_[row], leaf_[far_places_[row]]);
    }
  }
}

// Finds what every point is near; false if some are too near each other to be told apart.
bool LeafNeighbours::compare(std::span<const uint32_t> leaf) {
  put_sample_first(leaf);
  panels_.pack(source_, leaf_);
  const size_t count = leaf_.size(), columns = panels_.columns();
  rows_.resize(count);
  for (size_t i = 0; i < count; ++i) rows_[i] = source_.row(leaf_[i]);
  kept_.resize(count * nearest_);
  places_.resize(count * nearest_);
  counts_.resize(count);
  far_places_.resize(count);
  far_distances_.resize(count);
  bool distinct = true;
  for_each_row([&](size_t row, float* distances) {
    distances[row] = kNever;
    float* const kept = &kept_[row * nearest_];
    counts_[row] = static_cast<uint32_t>(
        source_.kernels().smallest(distances, columns, nearest_, kept, &places_[row * nearest_]));
    if (counts_[row] == 0) kept[0] = kNever;
    distinct = distinct && kept[0] > blur(row);
    find_far(row, distances);
  });
  return distinct;
}

void LeafNeighbours::for_each_row(const std::function<void(size_t, float*)>& body) {
  const size_t tile = source_.kernels().code_tile_rows, columns = panels_.columns();
  distances_.resize(tile * columns);
  for (size_t begin = 0; begin < rows_.size(); begin += tile) {
    const size_t rows = std::min(tile, rows_.size() - begin);
    panels_.distances(source_, std::span(rows_).subspan(begin, rows), distances_.data());
    for (size_t i = 0; i < rows; ++i) body(begin + i, &distances_[i * columns]);
  }
}

// roots_: the points of the leaf that no earlier root is too near to; the others get a leader.
void LeafNeighbours::take_out_copies(std::span<const uint32_t> leaf) {
  leaf_.assign(leaf.begin(), leaf.end());
  panels_.pack(source_, leaf_);
  for (size_t i = 0; i < leaf_.size(); ++i) rows_[i] = source_.row(leaf_[i]);
  std::vector<bool> taken(leaf_.size());
  roots_.clear();
  for_each_row([&](size_t row, const float* distances) {
    if (taken[row]) return;
    roots_.push_back(leaf_[row]);
    const float least = blur(row);
    // Where points lie that close everywhere, as in few dimensions, they are no copies.
    const bool is_dense = std::any_of(distances, distances + leaf_.size(), [&](float distance) {
      return distance > least && distance <= kGap * least;
    });
    if (is_dense) return;
    for (size_t i = row + 1; i < leaf_.size(); ++i) {
      if (taken[i] || !(distances[i] <= least)) continue;
      taken[i] = met_.leaders.offer(leaf_[i], leaf_[row]);
    }
  });
}

// What rounding to codes adds to the squared distance of two points, some six times over: each of
// 2 * depth roundings has a variance of a twelfth of a step. Under inner product never.
float LeafNeighbours::blur(size_t row) const {
  if (!source_.is_euclidean()) return -kNever;
  const float step = 0.5f * rows_[row].factor;
  return (step * step) * static_cast<float>(source_.depth());
}

// One from each of so many equal runs of the leaf, whose order may be that of copies.
void LeafNeighbours::put_sample_first(std::span<const uint32_t> leaf) {
  leaf_.assign(leaf.begin(), leaf.end());
  if (leaf.size() <= kSample) return;
  Rng rng(leaf.front(), kSampleStream + leaf.size());
  for (size_t i = 0; i < kSample; ++i) {
    const size_t from = i * leaf.size() / kSample, to = (i + 1) * leaf.size() / kSample;
    std::swap(leaf_[i], leaf_[from + rng.bounded(to - from)]);
  }
}

// The nearest of the sample past the gap; the point itself if there is none.
void LeafNeighbours::find_far(size_t row, const float* distances) {
  far_places_[row] = static_cast<uint32_t>(row);
  if (counts_[row] == 0 || !source_.is_euclidean()) return;
  const float limit = kGap * std::max(blur(row), kept_[row * nearest_ + counts_[row] - 1]);
  float best = kNever;
  for (size_t i = 0; i < kSample; ++i) {
    best = distances[i] > limit && distances[i] < best ? distances[i] : best;
  }
  if (best == kNever) return;
  far_distances_[row] = best;
  far_places_[row] =
      static_cast<uint32_t>(std::find(distances, distances + kSample, best) - distances);
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
