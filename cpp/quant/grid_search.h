// SPDX-License-Identifier: Apache-2.0
// The point of a grid that is nearest to a vector in direction: what extended RaBitQ encodes.
//
// Source: Gao, Gou, Xu, Yang, Long, Wong, "Practical and asymptotically optimal quantization of
// high-dimensional vectors in Euclidean space for approximate nearest neighbor search" (SIGMOD
// 2025). The grid is {-(M - 1/2), ..., -1/2, 1/2, ..., M - 1/2}^d with M = 2^(bits - 1). The best
// point is r scaled by some t > 0 and rounded, and as t grows one coordinate at a time moves on by
// one level, at the breakpoints t = m / |r_i|. So:
//   1. take the codes at the least t of interest,
//   2. sort the breakpoints above it,
//   3. walk them, keeping <g, r> and |g|^2 up to date, and remember where the cosine was largest,
//   4. replay the walk up to there.
// What differs: the walk covers a window around the scale that suits a Gaussian vector of the same
// length, or the vector's own largest coordinate (window() in the .cpp says why), and the
// breakpoints are sorted by buckets instead of a heap.
//
// The nearest direction with the best scale also has the least squared error of all (scale, point)
// pairs, since min over s of |r - s g|^2 is |r|^2 (1 - cos^2). One scale for all vectors of equal
// length, which the paper's code offers as a faster way, has 1.02 times this error at d=784 with 4
// bits, 1.16 at d=100, 2.3 and 30 with 8 bits (bench/LOG.md, "quant"): it is not offered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace bigrain::quant {

inline constexpr uint32_t kMaxGridBits = 8;

// Holds scratch: one per thread.
class GridSearch {
 public:
  explicit GridSearch(uint32_t bits) : bits_(bits), levels_(uint32_t{1} << (bits - 1)) {}

  // codes[i] = u_i in [0, 2^bits), which stands for the coordinate u_i - (2^bits - 1) / 2. A zero
  // coordinate counts as positive. x is finite.
  void nearest(std::span<const float> x, std::span<uint8_t> codes);

 private:
  struct Window {
    float least, most;
  };
  Window window() const;
  void start(float least, std::span<uint8_t> levels) const;
  void collect(const Window& window, std::span<const uint8_t> levels);
  void sort_by_buckets(const Window& window);
  size_t best_prefix(std::span<const uint8_t> levels);

  uint32_t bits_, levels_;
  std::vector<float> magnitude_;           // |x_i| / max |x_j|
  std::vector<uint64_t> events_, sorted_;  // bits of t | index of the coordinate
  std::vector<uint32_t> places_;
  std::vector<uint8_t> walked_;
};

}  // namespace bigrain::quant
