// SPDX-License-Identifier: Apache-2.0
#include "quant/opq.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "bigrain/error.h"
#include "quant/pq_scan.h"
#include "simd/panels.h"
#include "util/elements.h"
#include "util/thread_pool.h"

namespace bigrain::quant {

namespace {

// Rows rotated at once: enough for every thread, and a few MiB of them.
constexpr size_t kChunk = 8192;

// visit(first, count, rotated rows) for all rows of x, in chunks.
template <class Visit>
void for_chunks(size_t rows, Visit&& visit) {
  for (size_t first = 0; first < rows; first += kChunk)
    visit(first, std::min(kChunk, rows - first));
}

double square_of(const float* x, size_t dim) {
  double sum = 0;
  for (size_t k = 0; k < dim; ++k) sum += static_cast<double>(x[k]) * static_cast<double>(x[k]);
  return sum;
}

// Distances to a query's rotated part become distances to the whole query.
void finish_row(double rest, double whole, double seen, Metric metric, std::span<float> distances) {
  const double shrink = whole > 0 ? std::sqrt(seen / whole) : 0;
  for (float& d : distances) {
    const double part = static_cast<double>(d);
    d = static_cast<float>(metric == Metric::l2 ? part + rest : 1 - (1 - part) * shrink);
  }
}

MatrixView slice(const MatrixView& x, size_t first, size_t count) {
  return {x.row(first), count, x.dim, x.dtype};
}

}  // namespace

namespace {

std::vector<float> checked(std::vector<float> rotation, size_t dim, const Pq& pq) {
  if (rotation.size() == dim * pq.shape().dim && pq.shape().dim <= dim) return rotation;
  throw Error::invalid("rotation: expected " + std::to_string(dim) + " x " +
                       std::to_string(pq.shape().dim) + " values, found " +
                       std::to_string(rotation.size()));
}

}  // namespace

Opq::Opq(std::vector<float> rotation, size_t dim, Pq pq)
    : rotation_(checked(std::move(rotation), dim, pq)),
      forward_(rotation_.data(), dim, pq.shape().dim),
      backward_(transposed(rotation_, dim, pq.shape().dim).data(), pq.shape().dim, dim),
      pq_(std::move(pq)) {}

Opq Opq::fit(const MatrixView& x, const PqShape& shape, const OpqParams& params, Monitor& monitor) {
  shape.check();
  if (shape.dim > x.dim) {
    throw Error::invalid("d_out: expected at most " + std::to_string(x.dim) +
                         ", the dimension of x, found " + std::to_string(shape.dim));
  }
  if (x.rows < shape.centroids()) {
    throw Error::invalid("x: " + std::to_string(x.rows) + " rows for " +
                         std::to_string(shape.centroids()) +
                         " centroids; expected at least as many rows as centroids");
  }
  TrainedRotation trained = train_rotation(x, shape, params, monitor);
  return Opq(std::move(trained.rotation), x.dim, Pq(shape, std::move(trained.codebooks)));
}

void Opq::rotate(const MatrixView& x, float* out, uint32_t threads, Monitor& monitor) const {
  std::vector<float> copy;
  for_chunks(x.rows, [&](size_t first, size_t count) {
    const float* rows = static_cast<const float*>(x.row(first));
    if (x.dtype != Dtype::f32) {
      copy.resize(count * x.dim);
      with_elements(x, [&](const auto* elements) {
        simd::convert(elements + first * x.dim, count * x.dim, nullptr, copy.data());
      });
      rows = copy.data();
    }
    forward_.multiply(rows, count, out + first * forward_.cols(), threads, monitor);
  });
}

void Opq::encode(const MatrixView& x, uint8_t* codes, uint32_t threads, Monitor& monitor) const {
  threads = resolve_threads(threads);
  std::vector<float> rotated(std::min(x.rows, kChunk) * forward_.cols());
  for_chunks(x.rows, [&](size_t first, size_t count) {
    rotate(slice(x, first, count), rotated.data(), threads, monitor);
    pq_.encode({rotated.data(), count, forward_.cols(), Dtype::f32},
               codes + first * pq_.shape().code_size(), threads, monitor);
  });
}

void Opq::decode(const uint8_t* codes, size_t rows, float* out, uint32_t threads,
                 Monitor& monitor) const {
  threads = resolve_threads(threads);
  std::vector<float> rotated(std::min(rows, kChunk) * forward_.cols());
  for_chunks(rows, [&](size_t first, size_t count) {
    pq_.decode(codes + first * pq_.shape().code_size(), count, rotated.data(), threads, monitor);
    backward_.multiply(rotated.data(), count, out + first * dim(), threads, monitor);
  });
}

void Opq::distances(const MatrixView& queries, const uint8_t* codes, size_t rows, Metric metric,
                    float* out, uint32_t threads, Monitor& monitor) const {
  const size_t inner = forward_.cols();
  std::vector<float> rotated(queries.rows * inner);
  rotate(queries, rotated.data(), resolve_threads(threads), monitor);
  pq_distances(pq_, {rotated.data(), queries.rows, inner, Dtype::f32}, codes, rows, metric, out,
               threads, monitor);
  if (inner == dim() || metric == Metric::ip) return;
  // What a query has outside the rotation's columns no code sees: it lengthens the query.
  for (size_t i = 0; i < queries.rows; ++i) {
    const double whole = square_of(static_cast<const float*>(queries.row(i)), dim());
    const double seen = square_of(rotated.data() + i * inner, inner);
    finish_row(std::max(whole - seen, 0.0), whole, seen, metric, std::span(out + i * rows, rows));
  }
}

void Opq::error_bounds(const MatrixView& queries, Metric metric, float* out,
                       Monitor& monitor) const {
  const size_t inner = forward_.cols();
  std::vector<float> rotated(queries.rows * inner);
  rotate(queries, rotated.data(), 1, monitor);
  pq_error_bounds(pq_, {rotated.data(), queries.rows, inner, Dtype::f32}, metric, out);
}

}  // namespace bigrain::quant
