// SPDX-License-Identifier: Apache-2.0
// Rows of any element type as the operands of the tile kernel. Private to search/exact*.
//
// Scores are single inner products <a, b>, smallest first, so that a tile's output needs no further
// arithmetic:
//   l2      a = (-2 (q - c), 1)   b = (x - c, |x - c|^2)   score = |q - x|^2 - |q - c|^2
//   ip      a = -q                b = x                    score = -<q, x>
//   cosine  a = -q / |q|          b = x / |x|              score = distance - 1
// The centre c, near the mean of the data, leaves differences as they are but shortens vectors: the
// rounding of |x|^2 + |q|^2 - 2 <q, x> grows with their lengths.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "search/exact_job.h"
#include "util/buffer.h"

namespace bigrain::exact {

// Length of the inner products: one more than the vectors' for l2.
inline size_t depth_of(const Job& job) { return job.base.dim + (job.metric == Metric::l2 ? 1 : 0); }

// The mean of a sample of the base's rows; empty unless the metric is l2.
std::vector<float> find_centre(const Job& job);

// Shortest and longest |x - c| of some rows.
struct NormRange {
  double low, high;
};

// Row-major operands `a` of the queries [begin, end), and each query's norm.
struct PackedQueries {
  PackedQueries(const Job& job, const std::vector<float>& centre, size_t begin, size_t end);

  const float* row(size_t i) const { return values.as<float>().data() + i * depth; }

  size_t depth;
  Buffer values;
  std::vector<double> norms;
};

// Operands `b` of the base rows [begin, end), as panels of tile_cols columns one after another;
// columns past the end are zero. `panels` holds a whole number of panels.
NormRange pack_base(const Job& job, const std::vector<float>& centre, size_t begin, size_t end,
                    std::span<float> panels);

}  // namespace bigrain::exact
