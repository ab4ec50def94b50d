// SPDX-License-Identifier: Apache-2.0
// What all builds share: checks of what is given, and what follows from it.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

#include "bigrain/params.h"
#include "format/parts.h"
#include "graph/prune.h"

namespace bigrain {

// All throw Error(invalid_argument).
void check_build(uint64_t rows, uint64_t dim, const BuildParams& params);
void check_ids(std::span<const int64_t> ids);
void check_queries(uint64_t dim, Dtype dtype, const MatrixView& queries);

float alpha_of(const BuildParams& params);
// parts.meta and the choice of codes must be set.
uint32_t degree_of(const BuildParams& params, const IndexParts& parts);
bool is_partitioned(const BuildParams& params, uint64_t count, uint64_t dim);

// Searches start at the medoid: the point nearest to the mean has the least norm after centring.
// For inner product at the longest vector, which is the best answer to most queries.
float entry_value(const graph::CodeDistances& distances, uint32_t point, graph::Pivot& pivot);
struct EntryChoice {
  uint32_t point = 0;
  float least = std::numeric_limits<float>::infinity();

  void offer(float value, uint32_t candidate) {
    if (!(value < least)) return;
    least = value;
    point = candidate;
  }
};

}  // namespace bigrain
