// SPDX-License-Identifier: Apache-2.0
// All distances between two sets of stored codes, tile by tile (simd/kernels.h, DistanceTileFn).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "graph/prune.h"
#include "simd/kernels.h"
#include "util/buffer.h"
#include "util/monitor.h"

namespace bigrain::graph {

// Columns of distances come in whole multiples of this; past the last point they are +infinity.
inline constexpr size_t kColumnMultiple = 32;

// Which distances the tiles hold: those that the graph is built for, or under inner product squared
// Euclidean ones instead, which the cut into neighbourhoods needs.
enum class Geometry : uint8_t { graph, euclidean };

// Every stored code as a row of tiles.
class TileSource {
 public:
  TileSource(const CodeDistances& distances, const simd::Kernels& kernels, size_t dim, size_t count,
             Geometry geometry, uint32_t threads, Monitor& monitor);

  const simd::TileRow& row(uint32_t id) const { return rows_[id]; }
  // How many leading codes of a record count: a multiple of 4.
  size_t depth() const { return depth_; }
  const simd::Kernels& kernels() const { return kernels_; }
  // Whether distances are squared Euclidean ones.
  bool is_euclidean() const { return is_euclidean_; }

 private:
  const simd::Kernels& kernels_;
  size_t depth_;
  bool is_euclidean_;
  std::vector<simd::TileRow> rows_;
};

// Points packed as the columns of tiles.
class Panels {
 public:
  // Replaces the contents; memory is reused. `ids` is not empty.
  void pack(const TileSource& source, std::span<const uint32_t> ids);
  size_t count() const { return count_; }
  size_t columns() const { return columns_; }

  // out[r * columns() + c] = distance of rows[r] and the c-th point.
  void distances(const TileSource& source, std::span<const simd::TileRow> rows, float* out) const;

 private:
  size_t count_ = 0, columns_ = 0, panel_bytes_ = 0;
  Buffer codes_;
  std::vector<float> scales_, biases_;
};

}  // namespace bigrain::graph
