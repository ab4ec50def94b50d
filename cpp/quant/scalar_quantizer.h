// SPDX-License-Identifier: Apache-2.0
// The codes of indexes on their own: 8 bits (quant/scalar8.h) or 4 (quant/scalar4.h) per dimension
// and one scale per vector, after centring and rotation (quant/frame.h). Records are those of an
// index under l2; the query of a distance has 8 bits, as in searches.
#pragma once

#include <cstdint>

#include "bigrain/types.h"
#include "quant/frame.h"
#include "quant/grid_search.h"
#include "util/monitor.h"

namespace bigrain::quant {

// Immutable, so that any number of threads may use one.
class ScalarQuantizer {
 public:
  // Throws Error(invalid_argument) unless bits is 4 or 8.
  ScalarQuantizer(uint32_t bits, Frame frame);

  uint32_t dim() const { return frame_.dim(); }
  uint32_t bits() const { return bits_; }
  size_t code_size() const { return stride_; }
  const Frame& frame() const { return frame_; }

  // As quant/rabitq.h has them. decode gives c + P^-1 x'.
  void encode(const MatrixView& x, uint32_t threads, Monitor& monitor, std::byte* codes) const;
  void decode(const Records& codes, uint32_t threads, Monitor& monitor, float* out) const;
  // Distances between what the codes stand for, the query's being 8 bits of its own.
  void distance(const MatrixView& queries, const Records& codes, Metric metric, uint32_t threads,
                Monitor& monitor, float* out) const;

 private:
  struct Prepared;
  struct Block;
  Prepared prepare_all(const MappedQueries& queries, uint32_t threads, Monitor& monitor) const;
  void open(const std::byte* record, std::span<float> out) const;
  double length_of(const std::byte* record, std::span<float> scratch) const;
  void load_block(const Records& codes, size_t first, Metric metric, Block& block) const;

  uint32_t bits_;
  Frame frame_;
  size_t stride_;
};

}  // namespace bigrain::quant
