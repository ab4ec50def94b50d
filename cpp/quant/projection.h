// SPDX-License-Identifier: Apache-2.0
// A linear map to fewer dimensions, computed by the kernel that scores codes.
//
// Where a few directions carry most of the variance, as in images and text embeddings, codes of
// those directions alone are as good a guide as codes of all, and shorter (LeanVec, TMLR 2024,
// in-distribution case: principal components). The rows of the map are kept as 8-bit code records
// and the vector to map is quantized to 8 bits, so that a row costs one integer inner product and
// the map of 784 to 184 dimensions fits the second-level cache (150 KB instead of 577).
//
// Steps: divide each coordinate by its scale, near its deviation, so that one coordinate of large
// variance does not take all of the 8 bits; quantize; one score per row, and the rows undo the
// scales. Differs from LeanVec: the directions are mixed by a random rotation, which gives all
// coordinates of the result the same variance, as scalar codes want it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "format/parts.h"
#include "quant/principal.h"
#include "simd/kernels.h"

namespace bigrain::quant {

// Fills parts.scales and parts.projection for parts.meta.code_dim dimensions from the first
// code_dim directions.
void set_projection(IndexParts& parts, const PrincipalDirections& directions,
                    const simd::Kernels& kernels);

// Maps centred vectors. A view of the parts of an index.
class Projection {
 public:
  Projection(const IndexParts& parts, const simd::Kernels& kernels);

  // Memory of one thread.
  struct Scratch {
    std::vector<float> scaled;
    Buffer code;
  };

  // out: code_dim floats.
  void apply(std::span<const float> x, Scratch& scratch, std::span<float> out) const;

 private:
  std::span<const float> scales_;
  const std::byte* rows_;
  size_t stride_;
  simd::ScoreCodesFn score_codes_;
  std::vector<uint32_t> row_numbers_;
};

}  // namespace bigrain::quant
