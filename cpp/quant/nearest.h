// SPDX-License-Identifier: Apache-2.0
// Centroids as the operands of the kernel nearest_tile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "simd/kernels.h"
#include "util/buffer.h"

namespace bigrain::quant {

class NearestCentroid {
 public:
  // Room for `count` centroids of `dim` coordinates; set() before find().
  NearestCentroid(const simd::Kernels& kernels, size_t count, size_t dim);

  // centroids[j * dim + k] - centre[k] for j < given (at most count; further ones are never the
  // nearest). No centre: empty. Points must be packed with the same centre.
  void set(const float* centroids, size_t given, std::span<const float> centre);

  // Per point of a panel the nearest centroid, ties by the smaller id, and its score:
  // |x - c|^2 = |x|^2 + 2 score. Both arrays hold nearest_cols items.
  void find(const float* panel, float* scores, uint32_t* ids) const {
    kernels_->nearest_tile(panel, values_.as<float>().data(), offsets_.as<float>().data(), groups_,
                           dim_, scores, ids);
  }

 private:
  const simd::Kernels* kernels_;
  size_t dim_, groups_;
  Buffer values_, offsets_;
};

}  // namespace bigrain::quant
