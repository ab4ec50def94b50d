// SPDX-License-Identifier: Apache-2.0
// The points of one k-means run, centred, as rows and as panels. Private to quant/kmeans*.
#pragma once

#include <span>
#include <vector>

#include "quant/kmeans.h"
#include "simd/kernels.h"
#include "util/buffer.h"

namespace bigrain::quant {

// Blocks of so many points are summed by one task: part of the result's definition. A multiple of
// every table's nearest_cols (48, 16, 12, 8), so that no panel lies in two blocks.
inline constexpr size_t kKMeansBlock = 1920;

class CentredPoints {
 public:
  // Two copies of the points in float32, one of them in panels.
  CentredPoints(const Points& points, const simd::Kernels& kernels, uint32_t threads,
                Monitor& monitor);

  size_t count() const { return count_; }
  size_t dim() const { return dim_; }
  size_t columns() const { return columns_; }  // points per panel
  std::span<const float> centre() const { return centre_; }

  // All of these are relative to the centre.
  const float* row(size_t i) const { return rows_.as<float>().data() + i * dim_; }
  const float* panel(size_t p) const { return panels_.as<float>().data() + p * columns_ * dim_; }
  float square(size_t i) const { return squares_.as<float>()[i]; }  // squared norm

 private:
  void find_centre(const Points& points);
  void load_block(const Points& points, size_t begin, size_t end);

  size_t count_, dim_, columns_;
  std::vector<float> centre_;
  Buffer rows_, panels_, squares_;
};

// clusters x dim seeds, relative to the centre.
std::vector<float> seed_centroids(const CentredPoints& points, const simd::Kernels& kernels,
                                  const KMeansParams& params, Monitor& monitor);

}  // namespace bigrain::quant
