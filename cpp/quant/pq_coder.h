// SPDX-License-Identifier: Apache-2.0
// The PQ codes of an index: what every point costs in memory where its row and its vector stay on
// an SSD.
//
// Optimized product quantization with its parametric rotation (Ge, He, Ke and Sun, CVPR 2013,
// section 3.2): eigenvectors of the covariance, shared out among the sub-vectors so that the
// products of their eigenvalues are alike; then k-means per sub-vector.
//
// What differs: of long vectors only the leading principal directions are cut into sub-vectors, so
// that one takes few coordinates and training costs little beside a build; the rotation is not
// trained further. Six alternations took 0.2 to 1.5 % off the error and three times the time, and
// scalar codes of unequal lengths (transform coding, Brandt, CVPR 2010) had a fifth more of it
// (bench/LOG.md, "codes for a walk on an SSD").
#pragma once

#include <cstdint>
#include <span>

#include "format/parts.h"
#include "quant/opq.h"
#include "util/monitor.h"

namespace bigrain::quant {

// 64 bytes, as DiskANN's usual setting: fewer bytes and more rows in memory cost reads. But four
// bits per coordinate are enough: on GloVe, of 100 dimensions, 50 bytes of code and 18 of rows read
// 7 % less than 64 and 4 (bench/LOG.md, "reads of a walk on an SSD").
inline constexpr uint32_t kMostPqBytes = 64;
constexpr uint32_t default_pq_bytes(uint32_t dim) {
  return (dim + 1) / 2 < kMostPqBytes ? (dim + 1) / 2 : kMostPqBytes;
}
// Coordinates per sub-vector where vectors are long: 256 dimensions for 64 bytes.
inline constexpr uint32_t kPqCoordinates = 4;

// Fills meta.pq_bytes, meta.pq_dim, pq_rotation and pq_codebooks from a sample of parts.vectors;
// parts.mean must be filled. `bytes`: at most dim; 0 for default_pq_bytes(). Below
// kPqCentroids points there is nothing to train on, and all four are cleared. The same bytes for
// every number of threads and every instruction set.
void fit_pq(IndexParts& parts, uint32_t bytes, uint32_t threads, Monitor& monitor);

// Reads one vector, as codes of `meta` see it before the rotation: less the mean, or, where they
// were given, as it is.
void load_for_pq(const IndexMeta& meta, Dtype dtype, std::span<const float> mean,
                 const void* vector, std::span<float> out);

// Makes codes; holds several times the memory of the rotation, for as long as encoding takes.
class PqCoder {
 public:
  // `parts` is borrowed, and fit_pq() has been called. Throws Error(corrupt) where the arrays are
  // not of the lengths that the meta data says, or not finite.
  explicit PqCoder(const IndexParts& parts);

  // Codes of `codes.size() / pq_bytes` rows of parts.vectors from `first` on.
  void encode(uint64_t first, std::span<std::byte> codes, uint32_t threads, Monitor& monitor) const;

 private:
  const IndexParts& parts_;
  Opq opq_;
};

// Fills parts.pq_codes.
void encode_pq(IndexParts& parts, uint32_t threads, Monitor& monitor);

}  // namespace bigrain::quant
