// SPDX-License-Identifier: Apache-2.0
// The fast layout: one bit per dimension of every neighbour, packed beside each vertex, so that one
// sequential read tells which neighbours are worth their 8-bit codes.
//
// Sources: RaBitQ (Gao and Long, SIGMOD 2024) for the estimate, SymphonyQG (Gou et al., SIGMOD
// 2025) for the vertex itself as the centre and blocks for fast_scan. For a vertex v, a neighbour
// u, r = u - v and its signs s, <r, y> ~ F <s, y> with F = |r|^2 / sum |r_i|, so that
//   |q - u|^2 ~ |q - v|^2 + |r|^2 + 2 F <s, v> - 2 F <s, q>,
// with a standard error of about 2 F |q - v| sqrt(1 - 2/pi): after a random rotation the cosine of
// r and s lies near sqrt(2/pi) in every direction. Under inner product, where codes are not
// centred, -2 <u, q> ~ -2 <v, q> - 2 F <s, q>, and |q| takes the place of |q - v|.
//
// Differs: estimates only decide which codes are read, and never enter the pool; |q - v| comes from
// the 8-bit code; the error needs no factor per neighbour.
//
// A vertex's block is one part per 32 neighbours, or a last one for at most 16, each in whole cache
// lines: two float16 per neighbour (SymphonyQG has float32), |r|^2 + 2 F <s, v> and 2 F, in a unit
// of length that suits the index; then codes in fast_scan's order. A
// half part's codes hold the first half of the sub-codes in their low, the second half in their
// high four bits, so that two scans of half the length take them up. Rounding is to the safe side:
// <s, v> is multiplied by F as rounded, so that its error scales <s, q - v>, and the sum is rounded
// down; what no float16 holds becomes -infinity, which always passes. Places past the end of a row
// hold NaN, which never does.
#pragma once

#include <cstdint>

#include "format/parts.h"
#include "quant/sign_query.h"
#include "simd/kernels.h"
#include "util/monitor.h"

namespace bigrain::quant {

inline constexpr size_t kBlockNeighbours = 32, kHalfNeighbours = 16;

// How many standard errors an estimate is given the benefit of: at 0 a walk needs to be 2 to 10 %
// wider for the same recall, from 1 on codes are read that do not help (bench/LOG.md).
inline constexpr float kGateErrors = 0.5f;

// Where things lie in a vertex's block.
class BlockShape {
 public:
  BlockShape() = default;
  BlockShape(size_t degree, size_t dim);

  size_t parts() const { return full_ + (half_bytes_ != 0 ? 1 : 0); }
  size_t bytes() const { return bytes_; }  // of a vertex's block
  size_t subs() const { return subs_; }
  size_t places(size_t part) const { return part < full_ ? kBlockNeighbours : kHalfNeighbours; }
  size_t offset(size_t part) const { return part * full_bytes_; }
  // In a half part, sub-codes from this one on are the upper ones.
  size_t lower_subs() const { return (subs_ + 1) / 2; }

 private:
  size_t subs_ = 0, full_ = 0, full_bytes_ = 0, half_bytes_ = 0, bytes_ = 0;
};

// A view of parts.blocks, which must have been made.
class NeighbourBlocks {
 public:
  NeighbourBlocks() = default;
  NeighbourBlocks(const IndexParts& parts, const simd::Kernels& kernels);

  size_t parts_per_vertex() const { return shape_.parts(); }
  void prefetch(uint32_t vertex) const {
    const std::byte* block = data_ + vertex * shape_.bytes();
    for (size_t offset = 0; offset < shape_.bytes(); offset += 64) {
      __builtin_prefetch(block + offset);
    }
  }

  // Which neighbours of part `part` may score below `limit`, given the score of the vertex: bit j
  // stands for place 32 part + j of its row.
  uint32_t near(const SignQuery& query, uint32_t vertex, size_t part, float score,
                float limit) const;

 private:
  const std::byte* data_ = nullptr;
  BlockShape shape_;
  float per_unit_ = 1;
  simd::FastScanFn fast_scan_ = nullptr;
  simd::GateFn gate_ = nullptr;
};

// Fills parts.blocks and parts.block_unit from codes and graph. The same bytes for every number of
// threads. Throws Error(corrupt) on an id outside the graph, and leaves parts as it was.
void make_blocks(IndexParts& parts, uint32_t threads, Monitor& monitor);

}  // namespace bigrain::quant
