// SPDX-License-Identifier: Apache-2.0
// RaBitQ codes of 1 to 8 bits per dimension, with unbiased distances and bounds on their error.
//
// Sources: Gao and Long, "RaBitQ" (SIGMOD 2024); Gao et al., its extension to several bits (SIGMOD
// 2025).
//   1. r = P (x - c): centred on the mean of a sample and rotated at random (quant/frame.h).
//   2. The code is the grid point g nearest to r in direction (quant/grid_search.h).
//   3. scale = |r|^2 / <g, r>. For a query s = P (q - c) then scale * <g, s> estimates <r, s>. It
//   is
//      unbiased over rotations: what g misses of r's direction points anywhere.
//   4. |x - q|^2 ~ |r|^2 + |s|^2 - 2 scale <g, s>; for inner products see quant/frame.h.
//   5. With rho = cos(g, r) the error of the estimate of <r, s> is
//      |r| sqrt(1/rho^2 - 1) / sqrt(dim - 1) times the length of s across r, times a number that is
//      Gaussian nearly enough: the record keeps the first three factors as `error`.
// What differs from the papers:
//   - Queries stay in float32, and codes are opened once for a block of records and all queries:
//     the estimate carries no error but the code's.
//   - Bounds. The papers take |s| for its length across r, which is what is wanted only where s is
//     at right angles to r, while near neighbours are the ones that matter. Here the interval is
//     the set of values t of <r, s> / |r| that the estimate e agrees with,
//       |e - t| <= k sqrt(|s|^2 - t^2),  k = epsilon sqrt(1/rho^2 - 1) / sqrt(dim - 1),
//     whose ends are (e +- k sqrt((1 + k^2) |s|^2 - e^2)) / (1 + k^2): Wilson's interval, for
//     directions. It keeps the papers' nominal rate, and for each query's 100 nearest it is 0.57
//     (fashion-mnist) to 0.94 (sentence embeddings) times as wide (bench/LOG.md, "quant").
#pragma once

#include <cstdint>

#include "bigrain/types.h"
#include "quant/frame.h"
#include "quant/grid_search.h"
#include "quant/rabitq_record.h"
#include "util/monitor.h"

namespace bigrain::quant {

// The papers' epsilon_0: two-sided bounds hold for 94 % of pairs.
inline constexpr float kDefaultEpsilon = 1.9f;
inline constexpr uint32_t kMinRabitqBits = 1, kMaxRabitqBits = 8;

// Immutable, so that any number of threads may use one.
class Rabitq {
 public:
  // Throws Error(invalid_argument) unless bits lies in 1..8.
  Rabitq(uint32_t bits, Frame frame);

  uint32_t dim() const { return frame_.dim(); }
  uint32_t bits() const { return layout_.bits(); }
  size_t code_size() const { return layout_.size(); }
  const Frame& frame() const { return frame_; }

  // x.rows records of code_size() bytes. Deterministic for every number of threads and instruction
  // set. Throws Error(invalid_argument) on a row that is too long (quant/code_space.h).
  void encode(const MatrixView& x, uint32_t threads, Monitor& monitor, std::byte* codes) const;
  // count x dim() floats: c + P^-1 (s g) with the s of least squared error, which is shorter than
  // `scale`.
  void decode(const Records& codes, uint32_t threads, Monitor& monitor, float* out) const;
  // queries.rows x codes.count floats in the metric's convention. Squared distances are at least 0.
  // Under cosine the length of a vector is estimated from its code too.
  void distance(const MatrixView& queries, const Records& codes, Metric metric, uint32_t threads,
                Monitor& monitor, float* out) const;

  struct Bounds {
    float *estimate, *lower, *upper;  // queries.rows x codes.count each
  };
  // Metrics l2 and ip; `epsilon` standard errors to either side.
  void distance_bounds(const MatrixView& queries, const Records& codes, Metric metric,
                       float epsilon, uint32_t threads, Monitor& monitor, const Bounds& out) const;

 private:
  struct Opened;
  template <class Body>
  void for_each_pair(const MappedQueries& queries, const Records& codes, Metric metric,
                     uint32_t threads, Monitor& monitor, const Body& body) const;
  double length_of(const Opened& record) const;
  void encode_row(std::span<const float> r, GridSearch& search, std::span<uint8_t> levels,
                  std::byte* record) const;

  Frame frame_;
  RabitqLayout layout_;
};

}  // namespace bigrain::quant
