// SPDX-License-Identifier: Apache-2.0
// Where codes live: vectors on their way to codes, and queries on their way to them.
//
//   l2      x centred on the mean of the base, then mapped; scores are squared distances
//   cosine  x / |x|, then as l2: |a - b|^2 = 2 - 2 cos(a, b)
//   ip      x mapped; scores are -2 <a, b>. Not centred: a query may be short beside the mean,
//           which would then take all of its 8 bits.
// Mapped means rotated (quant/rotation.h), or projected to fewer dimensions and rotated there
// (quant/projection.h). Reducing inner product to Euclidean distance by one more coordinate
// (Bachrach et al., RecSys 2014) was tried and lost badly (bench/LOG.md, "inner product").
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "bigrain/types.h"
#include "format/parts.h"
#include "quant/projection.h"
#include "simd/kernels.h"
#include "util/monitor.h"

namespace bigrain::quant {

// Memory of one thread for mapping.
struct MapScratch {
  std::vector<float> centred, mapped;
  Projection::Scratch projection;
};

// A view of the parts of an index that map vectors into the space.
class CodeSpace {
 public:
  CodeSpace(const IndexParts& parts, const simd::Kernels& kernels);

  uint32_t dim() const { return code_dim_; }
  size_t stride() const { return code_stride(code_dim_); }

  // Maps one query (index dtype; f32 for f16) to dim() floats, which are part of the scratch.
  std::span<const float> map_query(const void* query, MapScratch& scratch) const;
  // The same for a row of parts.vectors.
  std::span<const float> map_row(const void* row, MapScratch& scratch) const;

 private:
  std::span<const float> map(const void* vector, Dtype dtype, MapScratch& scratch) const;

  Metric metric_;
  Dtype dtype_;
  uint32_t dim_, code_dim_;
  std::span<const float> mean_;
  std::span<const uint8_t> signs_;
  simd::HadamardFn hadamard_;
  std::optional<Projection> projection_;
};

// Reads one vector as float32. `dim` elements of `dtype`.
void load_vector(const void* vector, Dtype dtype, std::span<float> out);

// Throws Error(invalid_argument), naming the argument and its row, unless the squared distance of
// two rows such as `x` fits float32.
void check_length(const char* name, size_t row, std::span<const float> x);

// Reads one vector, normalised under cosine.
void load_normalised(Metric metric, Dtype dtype, const void* vector, std::span<float> out);

// The same of an index, minus parts.mean.
void load_centred(const IndexParts& parts, const void* vector, std::span<float> out);
// The same for a vector that is not of the index, such as a query.
void load_centred(const IndexMeta& meta, Dtype dtype, std::span<const float> mean,
                  const void* vector, std::span<float> out);

// The three steps of making codes, in this order. All are deterministic for every number of
// threads; parts.meta and parts.vectors must be filled.

// Fills parts.mean: zeros under inner product.
void fit_mean(IndexParts& parts, uint32_t threads, Monitor& monitor);
// Fills parts.signs, for codes of all dimensions.
void set_rotation(IndexParts& parts);
// Encodes every vector into parts.codes; parts.mean and signs or projection must be filled.
void encode_all(IndexParts& parts, const simd::Kernels& kernels, uint32_t threads,
                Monitor& monitor);

}  // namespace bigrain::quant
