// SPDX-License-Identifier: Apache-2.0
// Rows of any element type as the operands of the tile kernels: panels of a fixed number of rows,
// transposed, so that one load takes the same coordinate of many rows.
#pragma once

#include <cstddef>
#include <span>

#include "bigrain/types.h"
#include "util/elements.h"

namespace bigrain::simd {

// to[k] = row[k] - centre[k] for the `dim` elements of a row; no centre: nullptr.
template <class T>
void convert(const T* row, size_t dim, const float* centre, float* to) {
  if (centre == nullptr) {
    for (size_t k = 0; k < dim; ++k) to[k] = to_float(row[k]);
  } else {
    for (size_t k = 0; k < dim; ++k) to[k] = to_float(row[k]) - centre[k];
  }
}

// panel[k * columns + c] = x[begin + c][k] - centre[k] for c < count; further columns are zero.
// `columns` is a multiple of 4, `centre` has x.dim entries or none.
void pack_panel(const MatrixView& x, size_t begin, size_t count, std::span<const float> centre,
                float* panel, size_t columns);

}  // namespace bigrain::simd
