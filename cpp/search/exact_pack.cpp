// SPDX-License-Identifier: Apache-2.0
#include "search/exact_pack.h"

#include <algorithm>
#include <cmath>

#include "simd/panels.h"
#include "util/elements.h"

namespace bigrain::exact {

namespace {

// A sample is enough: any centre is right, and one near the mean is nearly best.
constexpr size_t kCentreSample = 1024;

// squares[c] = the squared norm of column c.
void column_squares(const float* panel, size_t dim, size_t columns, double* squares) {
  std::fill_n(squares, columns, 0.0);
  for (size_t k = 0; k < dim; ++k) {
    const float* slice = panel + k * columns;
    for (size_t c = 0; c < columns; ++c) {
      const double value = static_cast<double>(slice[c]);
      squares[c] += value * value;
    }
  }
}

void scale_columns(float* panel, size_t dim, size_t columns, const double* squares) {
  std::vector<double> inverse(columns);
  for (size_t c = 0; c < columns; ++c) inverse[c] = squares[c] > 0 ? 1 / std::sqrt(squares[c]) : 0;
  for (size_t k = 0; k < dim; ++k) {
    float* slice = panel + k * columns;
    for (size_t c = 0; c < columns; ++c)
      slice[c] = static_cast<float>(static_cast<double>(slice[c]) * inverse[c]);
  }
}

void finish_query(Metric metric, float* a, size_t dim, double norm) {
  if (metric == Metric::l2) {
    for (size_t k = 0; k < dim; ++k) a[k] *= -2;
    a[dim] = 1;
  } else {
    const double factor = metric == Metric::cosine && norm > 0 ? -1 / norm : -1;
    for (size_t k = 0; k < dim; ++k) a[k] = static_cast<float>(static_cast<double>(a[k]) * factor);
  }
}

}  // namespace

std::vector<float> find_centre(const Job& job) {
  if (job.metric != Metric::l2) return {};
  const size_t dim = job.base.dim;
  const size_t sample = std::min(job.base.rows, kCentreSample);
  std::vector<double> sum(dim);
  with_elements(job.base, [&](const auto* elements) {
    for (size_t i = 0; i < sample; ++i) {
      const auto* row = elements + i * job.base.rows / sample * dim;
      for (size_t k = 0; k < dim; ++k) sum[k] += static_cast<double>(to_float(row[k]));
    }
  });
  std::vector<float> centre(dim);
  for (size_t k = 0; k < dim; ++k)
    centre[k] = static_cast<float>(sum[k] / static_cast<double>(sample));
  return centre;
}

PackedQueries::PackedQueries(const Job& job, const std::vector<float>& centre, size_t begin,
                             size_t end)
    : depth(depth_of(job)), values((end - begin) * depth * sizeof(float)), norms(end - begin) {
  const size_t dim = job.base.dim;
  with_elements(job.queries, [&](const auto* elements) {
    for (size_t i = 0; i < end - begin; ++i) {
      float* a = values.as<float>().data() + i * depth;
      simd::convert(elements + (begin + i) * dim, dim, centre.empty() ? nullptr : centre.data(), a);
      double square;
      column_squares(a, dim, 1, &square);
      norms[i] = std::sqrt(square);
      finish_query(job.metric, a, dim, norms[i]);
    }
  });
}

NormRange pack_base(const Job& job, const std::vector<float>& centre, size_t begin, size_t end,
                    std::span<float> panels) {
  const size_t dim = job.base.dim, depth = depth_of(job);
  const size_t columns = job.kernels.gemm_tile_cols;
  std::vector<double> squares(columns);
  double low = std::numeric_limits<double>::infinity(), high = 0;
  float* panel = panels.data();
  for (; begin < end; begin += columns, panel += columns * depth) {
    const size_t count = std::min(columns, end - begin);
    simd::pack_panel(job.base, begin, count, centre, panel, columns);
    column_squares(panel, dim, columns, squares.data());
    if (job.metric == Metric::cosine) scale_columns(panel, dim, columns, squares.data());
    if (job.metric == Metric::l2) {
      for (size_t c = 0; c < columns; ++c)
        panel[dim * columns + c] = static_cast<float>(squares[c]);
    }
    const auto [least, most] = std::minmax_element(squares.begin(), squares.begin() + count);
    low = std::min(low, *least);
    high = std::max(high, *most);
  }
  return {std::sqrt(low), std::sqrt(high)};
}

}  // namespace bigrain::exact
