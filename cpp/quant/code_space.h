// SPDX-License-Identifier: Apache-2.0
// Where codes live: vectors on their way to codes, and queries on their way to them.
//
//   l2      x centred on the mean of the base, rotated; scores are squared distances
//   cosine  x / |x|, then as l2: |a - b|^2 = 2 - 2 cos(a, b)
//   ip      x rotated; scores are -2 <a, b>. Not centred: a query may be short beside the mean,
//   which
//           would then take all of its 8 bits.
// The rotation is that of quant/rotation.h. Reducing inner product to Euclidean distance by one
// more coordinate (Bachrach et al., RecSys 2014) was tried and lost badly (bench/LOG.md, "inner
// product").
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bigrain/types.h"
#include "format/parts.h"
#include "simd/kernels.h"
#include "util/monitor.h"

namespace bigrain::quant {

// A view of the parts of an index that map vectors into the space.
class CodeSpace {
 public:
  CodeSpace(const IndexParts& parts, const simd::Kernels& kernels);

  uint32_t dim() const { return dim_; }
  size_t stride() const { return stride_; }

  // Maps one query (index dtype; f32 for f16) to dim() floats.
  void map_query(const void* query, std::span<float> out) const;

 private:
  Metric metric_;
  Dtype dtype_;
  uint32_t dim_;
  size_t stride_;
  std::span<const float> mean_;
  std::span<const uint8_t> signs_;
  simd::HadamardFn hadamard_;
};

// Reads one vector as float32. `dim` elements of `dtype`.
void load_vector(const void* vector, Dtype dtype, std::span<float> out);

// Throws Error(invalid_argument), naming the argument and its row, unless the squared distance of
// two rows such as `x` fits float32.
void check_length(const char* name, size_t row, std::span<const float> x);

// Fits the space to parts.vectors (fills mean and signs) and encodes every vector (fills codes).
// Deterministic for every number of threads. parts.meta and parts.vectors must be filled.
void fit_and_encode(IndexParts& parts, const simd::Kernels& kernels, uint32_t threads,
                    Monitor& monitor);

}  // namespace bigrain::quant
