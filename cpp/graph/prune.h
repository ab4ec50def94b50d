// SPDX-License-Identifier: Apache-2.0
// RobustPrune (DiskANN, NeurIPS 2019, algorithm 2): from candidates near a point choose at most R
// neighbours of which none is much closer to another chosen one than to the point.
//
// Differs from the paper: alpha grows from 1 in steps (as in DiskANN's code and SVS), so that the
// strictest choice comes first and rows that it leaves short are filled with what a larger alpha
// admits; where many points lie equally far, a large alpha alone would take the nearest R and lose
// the way (bench/LOG.md). For inner product c is occluded by a chosen s if alpha <s, c> >= <p, c>,
// with alpha falling from 1 (ip-NSW, NeurIPS 2018, with DiskANN's alpha). Distances are those of
// 8-bit codes, whose error (search/greedy.h, quant/scalar8.h) is far below the gaps that alpha
// decides; each chosen neighbour is compared with all surviving candidates by one batch call, which
// costs the same number of distances as testing candidates one by one and reads the chosen code
// once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "search/greedy.h"
#include "simd/kernels.h"
#include "util/buffer.h"

namespace bigrain::graph {

// The distances that building needs, between stored codes: squared Euclidean ones, or for inner
// product -2 <a, b>.
struct CodeDistances {
  search::CodesView codes;
  simd::ScoreCodesFn score_codes = nullptr;
  bool inner_product = false;
};

// A stored point prepared as the one side of many distances.
class Pivot {
 public:
  explicit Pivot(size_t stride) : buffer_(stride) {}

  void set(const CodeDistances& distances, uint32_t id);
  const simd::CodeQuery& query() const { return query_; }
  // Adding this to a score gives the distance.
  float offset() const { return offset_; }
  // out[i] = distance to ids[i].
  void distances_to(const CodeDistances& distances, std::span<const uint32_t> ids,
                    float* out) const;

 private:
  Buffer buffer_;
  simd::CodeQuery query_{};
  float offset_ = 0;
};

struct PruneScratch {
  explicit PruneScratch(size_t stride) : pivot(stride) {}

  Pivot pivot;
  std::vector<uint32_t> ids;
  std::vector<float> to_point, to_chosen, occlusion;
};

// Writes the chosen ids, nearest first, to `chosen` and returns how many (at most `degree`).
// `candidates` (distance to the point, id) are sorted and made distinct on the way; they
// must not contain the point itself.
size_t robust_prune(const CodeDistances& distances, std::vector<search::ScoredId>& candidates,
                    float alpha, size_t degree, PruneScratch& scratch, uint32_t* chosen);

}  // namespace bigrain::graph
