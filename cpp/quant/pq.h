// SPDX-License-Identifier: Apache-2.0
// Product quantization: a vector is cut into `subs` sub-vectors, and each is replaced by the number
// of the nearest of 2^bits centroids of its own (Jegou, Douze and Schmid, TPAMI 33(1), 2011).
//
//   fit     k-means per sub-vector on a sample (kmeans.h)
//   encode  the nearest centroid per sub-vector, ties by the smaller number
//   decode  the centroids themselves
//   tables  asymmetric distances are sums of table entries (pq_scan.h)
//
// What differs from the paper: sub-vectors may be uneven (the first dim % subs have one coordinate
// more), and 4-bit codes are scored 32 at a time from tables in registers. Codebooks and codes are
// the same bytes for every number of threads and every instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "bigrain/types.h"
#include "quant/nearest.h"
#include "util/monitor.h"

namespace bigrain::quant {

// Where sub-vectors lie, and how codes are laid out: a byte per sub-code with 8 bits; with 4 bits
// sub-code 2 i in the low and 2 i + 1 in the high half of byte i, the rest zero.
struct PqShape {
  size_t dim = 0, subs = 0;
  uint32_t bits = 8;

  size_t centroids() const { return size_t{1} << bits; }
  size_t code_size() const { return bits == 8 ? subs : (subs + 1) / 2; }
  size_t first(size_t sub) const {
    return sub * (dim / subs) + (sub < dim % subs ? sub : dim % subs);
  }
  size_t length(size_t sub) const { return dim / subs + (sub < dim % subs ? 1 : 0); }
  uint32_t code(const uint8_t* codes, size_t sub) const {
    return bits == 8 ? codes[sub] : codes[sub / 2] >> (sub % 2 * 4) & 15u;
  }
  // Throws Error(invalid_argument) unless 1 <= subs <= dim <= kMaxDim and bits is 4 or 8.
  void check() const;
};

struct PqParams {
  uint32_t iterations = 25;  // of k-means, at most
  uint64_t seed = 0;
  uint32_t threads = 1;
};

// Immutable; every member may be called from any number of threads at once.
class Pq {
 public:
  // `codebooks`: the centroids of sub 0 (2^bits rows of length(0)), of sub 1, ...; all finite.
  Pq(const PqShape& shape, std::vector<float> codebooks);
  Pq(Pq&&) = default;
  Pq(const Pq&) = delete;

  // Trains on x, at most kTrainRows rows of it. Throws Error(invalid_argument) where x has fewer
  // rows than 2^bits.
  static Pq fit(const MatrixView& x, const PqShape& shape, const PqParams& params,
                Monitor& monitor);

  const PqShape& shape() const { return shape_; }
  std::span<const float> codebooks() const { return codebooks_; }
  const float* centroid(size_t sub, size_t j) const {
    return codebooks_.data() + shape_.centroids() * shape_.first(sub) + j * shape_.length(sub);
  }

  // x of any dtype; codes: x.rows records of code_size() bytes.
  void encode(const MatrixView& x, uint8_t* codes, uint32_t threads, Monitor& monitor) const;
  // out: rows x dim.
  void decode(const uint8_t* codes, size_t rows, float* out, uint32_t threads,
              Monitor& monitor) const;

 private:
  void encode_panel(const MatrixView& x, size_t begin, size_t count, float* panel,
                    uint8_t* codes) const;

  PqShape shape_;
  std::vector<float> codebooks_, centre_;
  std::vector<NearestCentroid> nearest_;  // one per sub
};

// Rows that training reads: 256 per centroid of an 8-bit sub-quantizer, as is usual; 1,024 per
// centroid with 4 bits, which costs little and loses less (bench/LOG.md, "pq").
constexpr size_t train_rows(uint32_t bits) { return bits == 8 ? 65'536 : 16'384; }

}  // namespace bigrain::quant
