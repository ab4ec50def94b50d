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
// A vertex's block is one part per 32 neighbours: 32 float32 of |r|^2 + 2 F <s, v>, 32 of 2 F, then
// codes in fast_scan's order, whole cache lines. Places past the end of a row hold +infinity.
#pragma once

#include <cstdint>

#include "format/parts.h"
#include "quant/sign_query.h"
#include "simd/kernels.h"
#include "util/monitor.h"

namespace bigrain::quant {

inline constexpr size_t kBlockNeighbours = 32;

// How many standard errors an estimate is given the benefit of: at 0 a walk needs to be 2 to 10 %
// wider for the same recall, from 1 on codes are read that do not help (bench/LOG.md).
inline constexpr float kGateErrors = 0.5f;

// A view of parts.blocks, which must have been made.
class NeighbourBlocks {
 public:
  NeighbourBlocks() = default;
  NeighbourBlocks(const IndexParts& parts, const simd::Kernels& kernels);

  size_t parts_per_vertex() const { return parts_per_vertex_; }
  void prefetch(uint32_t vertex) const {
    const std::byte* block = data_ + vertex * vertex_bytes();
    for (size_t offset = 0; offset < vertex_bytes(); offset += 64) {
      __builtin_prefetch(block + offset);
    }
  }

  // Which neighbours of part `part` may score below `limit`, given the score of the vertex: bit j
  // stands for place 32 part + j of its row.
  uint32_t near(const SignQuery& query, uint32_t vertex, size_t part, float score,
                float limit) const;

 private:
  size_t vertex_bytes() const { return parts_per_vertex_ * part_bytes_; }

  const std::byte* data_ = nullptr;
  size_t parts_per_vertex_ = 0, part_bytes_ = 0, subs_ = 0;
  simd::FastScanFn fast_scan_ = nullptr;
};

// Fills parts.blocks from codes and graph. The same bytes for every number of threads. Throws
// Error(corrupt) on an id outside the graph, and leaves parts as it was.
void make_blocks(IndexParts& parts, uint32_t threads, Monitor& monitor);

}  // namespace bigrain::quant
