// SPDX-License-Identifier: Apache-2.0
#include "quant/product.h"

#include <algorithm>
#include <array>

#include "simd/gemm.h"
#include "util/thread_pool.h"

namespace bigrain::quant {

namespace {

// Products per task: about a millisecond. At least so many rows share the reading of a panel.
constexpr size_t kTaskProducts = size_t{1} << 26, kLeastRows = 48;
constexpr size_t kTransposeBlock = 16;

}  // namespace

PackedMatrix::PackedMatrix(const float* b, size_t rows, size_t cols)
    : kernels_(&simd::active_kernels()), rows_(rows), cols_(cols) {
  const size_t width = kernels_->gemm_tile_cols, panels = (cols + width - 1) / width;
  panels_ = Buffer(panels * width * rows * sizeof(float));
  float* to = panels_.as<float>().data();
  for (size_t first = 0; first < cols; first += width)
    for (size_t k = 0; k < rows; ++k, to += width)
      std::copy_n(b + k * cols + first, std::min(width, cols - first), to);
}

void PackedMatrix::multiply_rows(const float* a, size_t count, float* out) const {
  const size_t width = kernels_->gemm_tile_cols, height = kernels_->gemm_tile_rows;
  alignas(64) std::array<float, simd::kGemmMaxTileRows * simd::kGemmMaxTileCols> tile;
  for (size_t first = 0; first < cols_; first += width) {
    const float* const panel = panels_.as<float>().data() + first * rows_;
    const size_t present = std::min(width, cols_ - first);
    for (size_t i = 0; i < count; i += height) {
      const size_t rows = std::min(height, count - i);
      float* const to = out + i * cols_ + first;
      if (present == width) {
        kernels_->gemm_tile_rounded(a + i * rows_, rows, panel, rows_, to, cols_);
        continue;
      }
      kernels_->gemm_tile_rounded(a + i * rows_, rows, panel, rows_, tile.data(), width);
      for (size_t r = 0; r < rows; ++r)
        std::copy_n(tile.data() + r * width, present, to + r * cols_);
    }
  }
}

void PackedMatrix::multiply(const float* a, size_t count, float* out, uint32_t threads,
                            Monitor& monitor) const {
  const size_t grain = std::max(kTaskProducts / (rows_ * cols_), kLeastRows);
  parallel_for(count, grain, threads, monitor, [&](size_t begin, size_t end, uint32_t) {
    multiply_rows(a + begin * rows_, end - begin, out + begin * cols_);
  });
}

std::vector<float> transposed(std::span<const float> a, size_t rows, size_t cols) {
  std::vector<float> out(a.size());
  for (size_t i0 = 0; i0 < rows; i0 += kTransposeBlock)
    for (size_t j0 = 0; j0 < cols; j0 += kTransposeBlock)
      for (size_t i = i0; i < std::min(rows, i0 + kTransposeBlock); ++i)
        for (size_t j = j0; j < std::min(cols, j0 + kTransposeBlock); ++j)
          out[j * rows + i] = a[i * cols + j];
  return out;
}

}  // namespace bigrain::quant
