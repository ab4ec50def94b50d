// SPDX-License-Identifier: Apache-2.0
// Optimized product quantization: a rotation before the product quantizer, so that little of a
// vector is lost to its cutting (Ge, He, Ke and Sun, CVPR 2013, the non-parametric algorithm).
//
// Alternates, for the rows of X and a matrix R with orthonormal columns:
//   1. Y = X R; one iteration of k-means per sub-vector of Y: codes, and centroids C as means;
//   2. R = the polar factor of X' Z, where the rows of Z are Y's codes decoded (Procrustes).
// Then k-means goes on until it has converged.
//
// What differs: X' Z is never a product of n rows. With S[j] the sum of the rows of X whose code is
// j, X' Z is S' C per sub-vector, and S needs additions only. R has fewer columns than rows where
// codes are of fewer dimensions than x. It starts as the paper's parametric solution, and moves on
// in the direction of its last steps (momentum, restarted where the error grows): alternation alone
// closes in slowly. The polar factor pulls R slightly to its predecessor (polar.h), which fixes
// directions without variance.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bigrain/types.h"
#include "quant/pq.h"
#include "quant/product.h"
#include "util/monitor.h"

namespace bigrain::quant {

struct OpqParams {
  uint32_t rotations = 40;  // alternations; with 25 faiss was 1 % better once (bench/LOG.md)
  PqParams pq;
};

// Immutable; every member may be called from any number of threads at once.
class Opq {
 public:
  // rotation: dim x pq.shape().dim, row-major, finite; y = x rotation is what `pq` codes.
  Opq(std::vector<float> rotation, size_t dim, Pq pq);
  Opq(Opq&&) = default;
  Opq(const Opq&) = delete;

  // shape.dim <= x.dim is the number of columns of the rotation. Throws as Pq::fit.
  static Opq fit(const MatrixView& x, const PqShape& shape, const OpqParams& params,
                 Monitor& monitor);

  size_t dim() const { return forward_.rows(); }
  const Pq& pq() const { return pq_; }
  std::span<const float> rotation() const { return rotation_; }

  // out: x.rows x pq().shape().dim; x of any dtype.
  void rotate(const MatrixView& x, float* out, uint32_t threads, Monitor& monitor) const;
  void encode(const MatrixView& x, uint8_t* codes, uint32_t threads, Monitor& monitor) const;
  // out: rows x dim().
  void decode(const uint8_t* codes, size_t rows, float* out, uint32_t threads,
              Monitor& monitor) const;
  // As pq_distances, to decode()'s vectors, for queries of dim() floats.
  void distances(const MatrixView& queries, const uint8_t* codes, size_t rows, Metric metric,
                 float* out, uint32_t threads, Monitor& monitor) const;
  // scan_error_bound of each query.
  void error_bounds(const MatrixView& queries, Metric metric, float* out, Monitor& monitor) const;

 private:
  std::vector<float> rotation_;
  PackedMatrix forward_, backward_;
  Pq pq_;
};

struct TrainedRotation {
  std::vector<float> rotation;   // x.dim x shape.dim
  std::vector<float> codebooks;  // as Pq takes them, for rotated vectors
};
TrainedRotation train_rotation(const MatrixView& x, const PqShape& shape, const OpqParams& params,
                               Monitor& monitor);

}  // namespace bigrain::quant
