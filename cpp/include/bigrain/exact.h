// SPDX-License-Identifier: Apache-2.0
// Exact k nearest neighbours by brute force: ground truth, and the yardstick of every recall.
#pragma once

#include <cstdint>

#include "bigrain/types.h"

namespace bigrain {

class Monitor;

// For every query the k nearest rows of `base`, nearest first, ties by the smaller row; rows beyond
// the size of `base` are padded with id -1 and distance +infinity. Both matrices have one dtype,
// except that f16 data is asked with f32 queries. `ids` and `distances` are (queries.rows, k).
// Distances are those of simd::Kernels::distance; the ranking equals sorting by them.
// Throws Error on a cosine row of zero norm; the caller has checked for NaN and infinity.
void exact_search(const MatrixView& base, const MatrixView& queries, Metric metric, uint32_t k,
                  uint32_t threads, int64_t* ids, float* distances, Monitor& monitor);

}  // namespace bigrain
