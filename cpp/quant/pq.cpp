// SPDX-License-Identifier: Apache-2.0
#include "quant/pq.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "bigrain/error.h"
#include "bigrain/params.h"
#include "quant/kmeans.h"
#include "simd/generic/nearest.h"
#include "simd/panels.h"
#include "util/buffer.h"
#include "util/thread_pool.h"

namespace bigrain::quant {

namespace {

// Products per task: about a millisecond.
constexpr size_t kTaskProducts = size_t{1} << 26;
constexpr size_t kDecodeBytes = size_t{1} << 20;

size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

}  // namespace

void PqShape::check() const {
  if (bits != 4 && bits != 8)
    throw Error::invalid("bits: expected 4 or 8, found " + std::to_string(bits));
  if (dim < kMinDim || dim > kMaxDim)
    throw Error::invalid("dim: expected " + std::to_string(kMinDim) + " to " +
                         std::to_string(kMaxDim) + ", found " + std::to_string(dim));
  if (subs < 1 || subs > dim)
    throw Error::invalid("m: expected 1 to the dimension, " + std::to_string(dim) + ", found " +
                         std::to_string(subs) + "; a sub-vector needs a coordinate");
}

Pq::Pq(const PqShape& shape, std::vector<float> codebooks)
    : shape_(shape), codebooks_(std::move(codebooks)), centre_(shape.dim) {
  shape_.check();
  const size_t k = shape_.centroids();
  if (codebooks_.size() != k * shape_.dim)
    throw Error::invalid("codebooks: expected " + std::to_string(k * shape_.dim) +
                         " values, found " + std::to_string(codebooks_.size()));
  const simd::Kernels& kernels = simd::active_kernels();
  nearest_.reserve(shape_.subs);
  for (size_t sub = 0; sub < shape_.subs; ++sub) {
    const size_t first = shape_.first(sub), length = shape_.length(sub);
    std::vector<double> sum(length);
    for (size_t j = 0; j < k; ++j)
      for (size_t i = 0; i < length; ++i) sum[i] += static_cast<double>(centroid(sub, j)[i]);
    for (size_t i = 0; i < length; ++i)
      centre_[first + i] = static_cast<float>(sum[i] / static_cast<double>(k));
    nearest_.emplace_back(kernels, k, length);
    nearest_.back().set(centroid(sub, 0), k, std::span(centre_).subspan(first, length));
  }
}

Pq Pq::fit(const MatrixView& x, const PqShape& shape, const PqParams& params, Monitor& monitor) {
  shape.check();
  const size_t k = shape.centroids();
  const std::vector<uint32_t> rows = sample_rows(x.rows, train_rows(shape.bits), params.seed);
  KMeansParams means;
  means.clusters = static_cast<uint32_t>(k);
  means.iterations = params.iterations;
  means.seed = params.seed;
  means.threads = params.threads;
  monitor.start(kmeans_work(rows.size(), means) * shape.subs);
  std::vector<float> codebooks(k * shape.dim);
  for (size_t sub = 0; sub < shape.subs; ++sub) {
    means.stream = sub + 1;  // the sample has drawn from stream 0
    const Points points{x, rows, shape.first(sub), shape.length(sub)};
    const KMeansResult result = kmeans(points, means, {}, monitor);
    std::copy(result.centroids.begin(), result.centroids.end(),
              codebooks.begin() + static_cast<std::ptrdiff_t>(k * shape.first(sub)));
  }
  return Pq(shape, std::move(codebooks));
}

void Pq::encode_panel(const MatrixView& x, size_t begin, size_t count, float* panel,
                      uint8_t* codes) const {
  const size_t columns = simd::active_kernels().nearest_cols, size = shape_.code_size();
  simd::pack_panel(x, begin, count, centre_, panel, columns);
  std::array<float, simd::kNearestMaxCols> scores;
  std::array<uint32_t, simd::kNearestMaxCols> ids;
  for (size_t sub = 0; sub < shape_.subs; ++sub) {
    nearest_[sub].find(panel + shape_.first(sub) * columns, scores.data(), ids.data());
    if (shape_.bits == 8) {
      for (size_t c = 0; c < count; ++c) codes[c * size + sub] = static_cast<uint8_t>(ids[c]);
    } else {
      for (size_t c = 0; c < count; ++c) {
        uint8_t& code = codes[c * size + sub / 2];
        code = static_cast<uint8_t>(sub % 2 == 0 ? ids[c] : code | ids[c] << 4);
      }
    }
  }
}

void Pq::encode(const MatrixView& x, uint8_t* codes, uint32_t threads, Monitor& monitor) const {
  const size_t columns = simd::active_kernels().nearest_cols, size = shape_.code_size();
  threads = resolve_threads(threads);
  monitor.start(x.rows);
  std::vector<Buffer> scratch(threads);
  const size_t products = columns * shape_.dim * shape_.centroids();
  const size_t grain = std::max<size_t>(kTaskProducts / products, 1);
  parallel_for(ceil_div(x.rows, columns), grain, threads, monitor,
               [&](size_t begin, size_t end, uint32_t worker) {
                 Buffer& panel = scratch[worker];
                 if (panel.size() == 0) panel = Buffer(columns * shape_.dim * sizeof(float));
                 for (size_t p = begin; p < end; ++p) {
                   const size_t first = p * columns, count = std::min(columns, x.rows - first);
                   encode_panel(x, first, count, panel.as<float>().data(), codes + first * size);
                   monitor.advance(count);
                 }
               });
}

void Pq::decode(const uint8_t* codes, size_t rows, float* out, uint32_t threads,
                Monitor& monitor) const {
  monitor.start(rows);
  const size_t grain = std::max<size_t>(kDecodeBytes / (shape_.dim * sizeof(float)), 1);
  parallel_for(rows, grain, resolve_threads(threads), monitor,
               [&](size_t begin, size_t end, uint32_t) {
                 for (size_t i = begin; i < end; ++i) {
                   const uint8_t* const code = codes + i * shape_.code_size();
                   float* const to = out + i * shape_.dim;
                   for (size_t sub = 0; sub < shape_.subs; ++sub)
                     std::memcpy(to + shape_.first(sub), centroid(sub, shape_.code(code, sub)),
                                 shape_.length(sub) * sizeof(float));
                 }
                 monitor.advance(end - begin);
               });
}

}  // namespace bigrain::quant
