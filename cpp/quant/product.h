// SPDX-License-Identifier: Apache-2.0
// Products of float matrices whose bits do not depend on threads or instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "simd/kernels.h"
#include "util/buffer.h"
#include "util/monitor.h"

namespace bigrain::quant {

// A row-major (rows x cols) right operand in panels of gemm_tile_cols columns.
class PackedMatrix {
 public:
  PackedMatrix(const float* b, size_t rows, size_t cols);

  size_t rows() const { return rows_; }
  size_t cols() const { return cols_; }

  // out (count x cols) = a (count x rows) times this; all row-major, out is not a.
  void multiply(const float* a, size_t count, float* out, uint32_t threads, Monitor& monitor) const;

 private:
  void multiply_rows(const float* a, size_t count, float* out) const;

  const simd::Kernels* kernels_;
  size_t rows_, cols_;
  Buffer panels_;
};

std::vector<float> transposed(std::span<const float> a, size_t rows, size_t cols);

}  // namespace bigrain::quant
