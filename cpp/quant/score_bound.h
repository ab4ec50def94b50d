// SPDX-License-Identifier: Apache-2.0
// How far a distance may lie below what codes say: when exact ranking may stop.
//
// Candidates come in the order of their scores. Once the k-th best exact distance so far is below
// what the next candidate could reach, no later one can enter the answer, and neither its vector
// nor any after it is read. RaBitQ (SIGMOD 2024, section 3.2) derives such a bound for one-bit
// codes; here it is measured, because what shortened codes leave out depends on the data.
//
//   distance >= ratio * estimate - offset; the offset is for copies, or nearly
//
// Inner products have none: the error of a code grows with the length of its vector, and in sets of
// far clusters the sample said nothing of those that mattered (.9975 instead of all neighbours).
// Codes of fewer dimensions leave a part of every distance out, so that the ratio may be above 1.
// A measured bound holds for nearly every pair, not for all: kQuantile of those sampled lie below.
#pragma once

#include <cstdint>

#include "format/parts.h"
#include "simd/kernels.h"
#include "util/monitor.h"

namespace bigrain::quant {

// Points that ask: evenly spread ones, or all.
inline constexpr uint64_t kBoundAskers = 512;

// Fills meta.bound_ratio and meta.bound_offset from points of the index as queries and their
// neighbours in the graph. Everything else must be filled. Deterministic; every instruction set
// gives the same bits.
void fit_score_bound(IndexParts& parts, const simd::Kernels& kernels, Monitor& monitor);

// What scores of one query say about distances.
class ScoreBound {
 public:
  ScoreBound() = default;
  // `squared_norm`: of the mapped query.
  ScoreBound(const IndexMeta& meta, float squared_norm);

  // What the score alone says.
  float estimate(float score) const { return (score + norm_) * scale_; }
  // What the distance is hardly ever below; -infinity where nothing was measured. Grows with the
  // score.
  float lower(float score) const { return estimate(score) * ratio_ - offset_; }

 private:
  float norm_ = 0, scale_ = 1, ratio_ = 0, offset_ = 0;
};

}  // namespace bigrain::quant
