// SPDX-License-Identifier: Apache-2.0
// Where the quantizers that stand alone (RaBitQ, ScalarQuantizer) keep their codes: centred on the
// mean of a sample, then rotated (quant/rotation.h). Indexes have quant/code_space.h, which knows
// of metrics; here a metric is chosen when distances are asked for.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "bigrain/types.h"
#include "simd/kernels.h"
#include "util/buffer.h"
#include "util/monitor.h"

namespace bigrain::quant {

// Code records in one block: `count` of them, one after the other.
struct Records {
  const std::byte* data = nullptr;
  size_t count = 0;
};

class Frame {
 public:
  // From its parts: dim floats, and kRotationRounds x ceil(dim / 8) bytes of sign bits. Throws
  // Error(invalid_argument) where the sizes do not fit or the centre is not finite.
  Frame(std::vector<float> centre, std::vector<uint8_t> signs);

  // Centre: the mean of x's rows. Signs: drawn from the seed.
  static Frame fit(const MatrixView& x, uint64_t seed, uint32_t threads, Monitor& monitor);

  uint32_t dim() const { return static_cast<uint32_t>(centre_.size()); }
  std::span<const float> centre() const { return centre_; }
  std::span<const uint8_t> signs() const { return signs_; }
  // The centre, rotated: turns inner products with centred codes into those with vectors.
  std::span<const float> rotated_centre() const { return rotated_centre_; }

  // In place: x <- P (x - centre), and back.
  void map(std::span<float> x) const;
  void unmap(std::span<float> x) const;

 private:
  std::vector<float> centre_;
  std::vector<uint8_t> signs_;
  std::vector<float> rotated_centre_;
  simd::HadamardFn hadamard_;
};

// Queries on their way to codes. Under l2 a row is P (q - centre) and its constant |q - centre|^2;
// under ip and cosine it is P q, which need not be centred since <q, x> = <q, centre> +
// <P q, P (x - centre)>, and its constant <q, centre>. Under cosine queries are normalised first.
struct MappedQueries {
  Buffer rows;                    // count x dim float32
  std::vector<double> constants;  // count
  size_t dim = 0;

  std::span<const float> row(size_t i) const { return rows.as<float>().subspan(i * dim, dim); }
};

MappedQueries map_queries(const Frame& frame, const MatrixView& queries, Metric metric,
                          uint32_t threads, Monitor& monitor);

// Calls body(i, P (x_i - centre), worker) for every row of x; the row is the body's to change.
// Checks the length of the rows and advances the monitor.
using MappedRow = std::function<void(size_t i, std::span<float> row, uint32_t worker)>;
void for_each_mapped(const Frame& frame, const MatrixView& x, uint32_t threads, Monitor& monitor,
                     const MappedRow& body);

// Sums in double, in the order of the elements.
double dot_of(std::span<const float> a, std::span<const float> b);

}  // namespace bigrain::quant
