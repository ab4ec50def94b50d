// SPDX-License-Identifier: Apache-2.0
// What the parts of one exact search share. Private to search/exact*.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "bigrain/types.h"
#include "simd/kernels.h"
#include "util/monitor.h"

namespace bigrain::exact {

struct Job {
  const MatrixView& base;
  const MatrixView& queries;
  const simd::Kernels& kernels;
  Metric metric;
  size_t k;  // at most base.rows
  uint32_t threads;
  Monitor& monitor;
  simd::DistanceFn kernel = kernels.distance_of(metric, base.dtype);

  // The distance that decides. An inner product beyond the range of float may be NaN, which has no
  // place in an order: it ranks with the infinite ones.
  float distance(size_t query, size_t row) const {
    const float d = kernel(queries.row(query), base.row(row), base.dim);
    return d == d ? d : std::numeric_limits<float>::infinity();
  }
};

}  // namespace bigrain::exact
