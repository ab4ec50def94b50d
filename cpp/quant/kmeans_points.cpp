// SPDX-License-Identifier: Apache-2.0
#include "quant/kmeans_points.h"

#include <algorithm>

#include "simd/panels.h"
#include "util/elements.h"
#include "util/thread_pool.h"

namespace bigrain::quant {

namespace {

// As in exact search: any centre is right, and one near the mean keeps rounding small.
constexpr size_t kCentreSample = 1024;

}  // namespace

CentredPoints::CentredPoints(const Points& points, const simd::Kernels& kernels, uint32_t threads,
                             Monitor& monitor)
    : count_(points.rows.size()),
      dim_(points.dim),
      columns_(kernels.nearest_cols),
      rows_(count_ * dim_ * sizeof(float)),
      panels_((count_ + columns_ - 1) / columns_ * columns_ * dim_ * sizeof(float)),
      squares_(count_ * sizeof(float)) {
  find_centre(points);
  parallel_for(count_, kKMeansBlock, threads, monitor,
               [&](size_t begin, size_t end, uint32_t) { load_block(points, begin, end); });
}

void CentredPoints::find_centre(const Points& points) {
  const size_t sample = std::min(count_, kCentreSample);
  std::vector<double> sum(dim_);
  with_elements(points.x, [&](const auto* elements) {
    for (size_t i = 0; i < sample; ++i) {
      const auto* row = elements + size_t{points.rows[i]} * points.x.dim + points.first;
      for (size_t k = 0; k < dim_; ++k) sum[k] += static_cast<double>(to_float(row[k]));
    }
  });
  centre_.resize(dim_);
  for (size_t k = 0; k < dim_; ++k)
    centre_[k] = static_cast<float>(sum[k] / static_cast<double>(sample));
}

void CentredPoints::load_block(const Points& points, size_t begin, size_t end) {
  float* const rows = rows_.as<float>().data();
  float* const squares = squares_.as<float>().data();
  with_elements(points.x, [&](const auto* elements) {
    for (size_t i = begin; i < end; ++i) {
      float* const to = rows + i * dim_;
      simd::convert(elements + size_t{points.rows[i]} * points.x.dim + points.first, dim_,
                    centre_.data(), to);
      float square = 0;
      for (size_t k = 0; k < dim_; ++k) square += to[k] * to[k];
      squares[i] = square;
    }
  });
  const MatrixView centred{rows, count_, dim_, Dtype::f32};
  for (size_t i = begin; i < end; i += columns_)
    simd::pack_panel(centred, i, std::min(columns_, end - i), {},
                     panels_.as<float>().data() + i * dim_, columns_);
}

}  // namespace bigrain::quant
