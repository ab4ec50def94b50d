// SPDX-License-Identifier: Apache-2.0
// k-means: centroids that make the mean squared distance to the nearest one small.
//
// Lloyd's iterations (Lloyd 1982) from seeds drawn by squared distance (k-means++, Arthur and
// Vassilvitskii, SODA 2007):
//   1. seed on a part of the points (kmeans_seed.h);
//   2. assign every point to its nearest centroid, replace each centroid by the mean of its points;
//   3. a centroid without points moves to the farthest point of the cell with the largest error;
//   4. again until the error falls by less than kmeans.cpp's tolerance.
// What differs: seeds come in batches, as in k-means|| (Bahmani et al., PVLDB 2012), so that they
// cost less than one iteration; the first iterations run on growing parts of the points, which
// moves the centroids most of the way at a part of the price.
//
// The result is the same for every number of threads and every instruction set: points are summed
// in blocks of fixed size, blocks in order, and nothing is computed with fused multiply-add.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bigrain/types.h"
#include "util/monitor.h"

namespace bigrain::quant {

// Rows rows[i] of x (of any dtype), of which the columns [first, first + dim) count. The rows are
// in random order: parts of them stand for all.
struct Points {
  MatrixView x;
  std::span<const uint32_t> rows;
  size_t first, dim;
};

struct KMeansParams {
  uint32_t clusters = 256;   // at most points.rows.size()
  uint32_t iterations = 25;  // at most so many on all points; 0 leaves seeds
  uint64_t seed = 0, stream = 0;
  uint32_t threads = 1;
};

struct KMeansResult {
  std::vector<float> centroids;  // clusters x dim
  double error = 0;              // mean squared distance in the last iteration, before its update
  uint32_t iterations = 0;       // on all points
  std::vector<uint32_t> ids;     // per point: its centroid in that assignment
};

// A random sample of min(rows, most) row numbers in random order.
std::vector<uint32_t> sample_rows(size_t rows, size_t most, uint64_t seed);

// `start`: clusters x dim centroids to begin with instead of seeds, or empty. Throws
// Error(invalid_argument) where there are fewer points than clusters. The monitor advances by at
// most kmeans_work(points.rows.size(), params).
KMeansResult kmeans(const Points& points, const KMeansParams& params, std::span<const float> start,
                    Monitor& monitor);
uint64_t kmeans_work(size_t rows, const KMeansParams& params);

}  // namespace bigrain::quant
