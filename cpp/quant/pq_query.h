// SPDX-License-Identifier: Apache-2.0
// Asymmetric distances from one query to the PQ codes of an index (Jegou, Douze and Schmid, TPAMI
// 33(1), 2011): a table of partial distances per sub-vector, a sum of entries per code.
//
// What differs: codes at scattered ids are scored eight at a time with plain loads and additions,
// in one order on every machine. Gathering 16 entries by one instruction took 22 ns per code of 64
// bytes against 13, entries of 16 bits 14 (bench/LOG.md, "codes for a walk on an SSD").
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "format/parts.h"
#include "simd/kernels.h"
#include "util/buffer.h"

namespace bigrain::quant {

// What all queries of an index share. Borrows parts.mean alone. The rotation is kept in half
// precision: it is read once per query, and its size and time halve (bench/LOG.md). One that was
// given stays as it is, so that scores are those that the codes were trained for.
class PqSpace {
 public:
  // Throws Error(corrupt) as PqCoder does.
  explicit PqSpace(const IndexParts& parts);

  const IndexMeta& meta() const { return meta_; }
  // Bytes that are held beside the parts.
  size_t memory() const { return columns_.size() * sizeof(float) + directions_.size(); }

 private:
  friend class PqQuery;

  Dtype precision() const { return meta_.pq_given ? Dtype::f32 : Dtype::f16; }

  IndexMeta meta_;
  std::span<const float> mean_;
  simd::DistanceFn minus_dot_;
  Buffer directions_;           // the rotation's columns: pq_dim rows of dim numbers
  std::vector<float> columns_;  // codebooks, coordinate by coordinate: pq_dim rows of kPqCentroids
};

// One query; memory is reused from one to the next.
class PqQuery {
 public:
  // `query`: index dtype; f32 for f16.
  void prepare(const PqSpace& space, const void* query);

  // Scores as quant/code_space.h defines them, up to a constant that the query alone determines:
  // squared distances (of normalised vectors under cosine), or -2 <a, b>. codes: pq_bytes each.
  // Codes that were given have the latter under cosine, too, since that is what training matches:
  // what a code stands for is no unit vector, and its length is part of what was learned.
  void score(const uint8_t* codes, std::span<const uint32_t> ids, float* out) const;

 private:
  void rotate(const PqSpace& space, const void* query);
  void fill_tables(const PqSpace& space);

  size_t subs_ = 0;
  std::vector<float> whole_, rotated_;
  std::vector<float> tables_;  // kPqCentroids per sub-vector
};

}  // namespace bigrain::quant
