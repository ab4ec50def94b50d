// SPDX-License-Identifier: Apache-2.0
#include "quant/frame.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "bigrain/error.h"
#include "format/parts.h"
#include "quant/code_space.h"
#include "quant/mean.h"
#include "quant/rotation.h"
#include "util/thread_pool.h"

namespace bigrain::quant {

namespace {

// Elements mapped at a time: a millisecond or so, so that a poll is never far.
constexpr size_t kGrainElements = size_t{1} << 16;

size_t signs_size(size_t dim) { return kRotationRounds * ((dim + 7) / 8); }

void check_dim(const Frame& frame, const MatrixView& x, const char* name) {
  if (x.dim == frame.dim()) return;
  throw Error::invalid(std::string(name) + ": expected " + std::to_string(frame.dim()) +
                       " dimensions, as the quantizer was fitted to, found " +
                       std::to_string(x.dim));
}

void normalise(std::span<float> x, size_t row) {
  const double norm = std::sqrt(dot_of(x, x));
  if (!(norm > 0)) {
    throw Error::invalid("queries: row " + std::to_string(row) +
                         " has zero length, which has no direction under metric cosine; remove it "
                         "or use another metric");
  }
  for (float& value : x) value = static_cast<float>(value / norm);
}

}  // namespace

double dot_of(std::span<const float> a, std::span<const float> b) {
  double total = 0;
  for (size_t i = 0; i < a.size(); ++i) total += static_cast<double>(a[i]) * b[i];
  return total;
}

Frame::Frame(std::vector<float> centre, std::vector<uint8_t> signs)
    : centre_(std::move(centre)),
      signs_(std::move(signs)),
      rotated_centre_(centre_),
      hadamard_(simd::active_kernels().hadamard) {
  if (centre_.empty() || signs_.size() != signs_size(centre_.size())) {
    throw Error::invalid("signs: expected " + std::to_string(signs_size(centre_.size())) +
                         " bytes for a centre of " + std::to_string(centre_.size()) +
                         " values, found " + std::to_string(signs_.size()));
  }
  check_length("centre", 0, centre_);
  rotate(signs_, rotated_centre_, hadamard_);
}

Frame Frame::fit(const MatrixView& x, uint64_t seed, uint32_t threads, Monitor& monitor) {
  std::vector<float> centre(x.dim);
  std::vector<uint8_t> signs(signs_size(x.dim));
  draw_signs(seed, static_cast<uint32_t>(x.dim), signs);
  monitor.start(x.rows);
  const auto load = [&](size_t i, std::span<float> out) {
    load_vector(x.row(i), x.dtype, out);
    check_length("x", i, out);
    monitor.advance(1);
  };
  mean_of_rows(x.rows, load, threads, monitor, centre);
  return Frame(std::move(centre), std::move(signs));
}

void Frame::map(std::span<float> x) const {
  for (size_t j = 0; j < x.size(); ++j) x[j] -= centre_[j];
  rotate(signs_, x, hadamard_);
}

void Frame::unmap(std::span<float> x) const {
  rotate_back(signs_, x, hadamard_);
  for (size_t j = 0; j < x.size(); ++j) x[j] += centre_[j];
}

MappedQueries map_queries(const Frame& frame, const MatrixView& queries, Metric metric,
                          uint32_t threads, Monitor& monitor) {
  check_dim(frame, queries, "queries");
  const size_t dim = frame.dim();
  const simd::HadamardFn hadamard = simd::active_kernels().hadamard;
  MappedQueries mapped{Buffer(queries.rows * dim * sizeof(float)),
                       std::vector<double>(queries.rows), dim};
  const std::span<float> rows = mapped.rows.as<float>();
  const size_t grain = std::max<size_t>(1, kGrainElements / dim);
  parallel_for(queries.rows, grain, threads, monitor, [&](size_t begin, size_t end, uint32_t) {
    for (size_t i = begin; i < end; ++i) {
      const std::span<float> row = rows.subspan(i * dim, dim);
      load_vector(queries.row(i), queries.dtype, row);
      check_length("queries", i, row);
      if (metric == Metric::l2) {
        frame.map(row);
        mapped.constants[i] = dot_of(row, row);
      } else {
        if (metric == Metric::cosine) normalise(row, i);
        mapped.constants[i] = dot_of(row, frame.centre());
        rotate(frame.signs(), row, hadamard);
      }
    }
  });
  return mapped;
}

void for_each_mapped(const Frame& frame, const MatrixView& x, uint32_t threads, Monitor& monitor,
                     const MappedRow& body) {
  check_dim(frame, x, "x");
  const size_t grain = std::max<size_t>(1, kGrainElements / frame.dim());
  monitor.start(x.rows);
  parallel_for(x.rows, grain, threads, monitor, [&](size_t begin, size_t end, uint32_t worker) {
    std::vector<float> row(frame.dim());
    for (size_t i = begin; i < end; ++i) {
      load_vector(x.row(i), x.dtype, row);
      check_length("x", i, row);
      frame.map(row);
      body(i, row, worker);
    }
    monitor.advance(end - begin);
  });
}

}  // namespace bigrain::quant
