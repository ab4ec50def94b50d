// SPDX-License-Identifier: Apache-2.0
#include "quant/pq_coder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "bigrain/error.h"
#include "quant/code_space.h"
#include "quant/kmeans.h"
#include "quant/principal.h"
#include "quant/product.h"
#include "simd/kernels.h"
#include "util/thread_pool.h"

namespace bigrain::quant {

namespace {

// 80 rows per centroid. Three times as many take twice the time and 1 % off the error
// (bench/LOG.md, "codes for a walk on an SSD").
constexpr size_t kRows = 20'480;
// Of them, for the principal directions: all take twice the time of the whole for 2 % off the
// error.
constexpr size_t kDirectionRows = 8'192;
// Of k-means; 25 give the same error to three digits.
constexpr uint32_t kIterations = 12;
// Rows loaded and encoded at once: a few MiB of floats.
constexpr size_t kChunk = 8'192;

const std::byte* row_of(const IndexParts& parts, uint64_t i) {
  return parts.vectors.data() + i * parts.meta.dim * item_size(parts.meta.dtype);
}

std::vector<float> centred_sample(const IndexParts& parts, Monitor& monitor) {
  const std::vector<uint32_t> rows = sample_rows(parts.meta.count, kRows, parts.meta.seed);
  const size_t dim = parts.meta.dim;
  std::vector<float> sample(rows.size() * dim);
  for (size_t i = 0; i < rows.size(); ++i) {
    monitor.check();
    load_centred(parts, row_of(parts, rows[i]), std::span(sample).subspan(i * dim, dim));
  }
  return sample;
}

Buffer buffer_of(std::span<const float> values) {
  Buffer buffer(values.size_bytes());
  std::memcpy(buffer.data(), values.data(), values.size_bytes());
  return buffer;
}

PqShape shape_of(const IndexMeta& meta) { return {meta.pq_dim, meta.pq_bytes, 8}; }

void clear(IndexParts& parts) {
  parts.meta.pq_bytes = parts.meta.pq_dim = 0;
  parts.meta.pq_given = false;
  parts.pq_rotation = {};
  parts.pq_codebooks = {};
  parts.pq_codes = {};
}

// As Pq and Opq take them; what comes from a file may hold anything.
std::vector<float> checked(const char* section, const Buffer& buffer, size_t count) {
  const std::span<const float> values = buffer.as<float>();
  const bool finite =
      std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
  if (values.size() == count && finite) return {values.begin(), values.end()};
  throw Error::corrupt(std::string("section ") + section + ": found " +
                       std::to_string(values.size()) + (finite ? "" : ", not all finite,") +
                       " values; expected " + std::to_string(count) +
                       " finite ones; build the index or copy its file again");
}

Opq opq_of(const IndexParts& parts) {
  const IndexMeta& meta = parts.meta;
  const size_t dim = meta.pq_dim;
  return {checked("pq_rotation", parts.pq_rotation, meta.dim * dim), meta.dim,
          Pq(shape_of(meta), checked("pq_codebooks", parts.pq_codebooks, dim * kPqCentroids))};
}

}  // namespace

void fit_pq(IndexParts& parts, uint32_t bytes, uint32_t threads, Monitor& monitor) {
  IndexMeta& meta = parts.meta;
  clear(parts);
  if (meta.count < kPqCentroids) return;
  meta.pq_bytes = std::min(bytes == 0 ? default_pq_bytes(meta.dim) : bytes, meta.dim);
  meta.pq_dim =
      static_cast<uint32_t>(std::min<uint64_t>(meta.dim, uint64_t{kPqCoordinates} * meta.pq_bytes));
  threads = resolve_threads(threads);
  std::vector<float> sample = centred_sample(parts, monitor);
  const size_t rows = sample.size() / meta.dim;
  // d x c, and the sample in those directions.
  std::vector<float> leading;
  if (meta.pq_dim < meta.dim) {
    const std::span<const float> head =
        std::span(sample).first(std::min(rows, kDirectionRows) * meta.dim);
    leading = transposed(
        principal_directions(head, meta.dim, meta.pq_dim, simd::active_kernels(), threads, monitor)
            .vectors,
        meta.pq_dim, meta.dim);
    std::vector<float> part(rows * meta.pq_dim);
    PackedMatrix(leading.data(), meta.dim, meta.pq_dim)
        .multiply(sample.data(), rows, part.data(), threads, monitor);
    sample = std::move(part);
  }
  const OpqParams params{.rotations = 0,
                         .pq = {.iterations = kIterations, .seed = meta.seed, .threads = threads}};
  const TrainedRotation trained = train_rotation({sample.data(), rows, meta.pq_dim, Dtype::f32},
                                                 shape_of(meta), params, monitor);
  std::vector<float> rotation = trained.rotation;
  if (!leading.empty()) {
    rotation.resize(size_t{meta.dim} * meta.pq_dim);
    PackedMatrix(trained.rotation.data(), meta.pq_dim, meta.pq_dim)
        .multiply(leading.data(), meta.dim, rotation.data(), threads, monitor);
  }
  parts.pq_rotation = buffer_of(rotation);
  parts.pq_codebooks = buffer_of(trained.codebooks);
}

void load_for_pq(const IndexMeta& meta, Dtype dtype, std::span<const float> mean,
                 const void* vector, std::span<float> out) {
  if (meta.pq_given) return load_normalised(meta.metric, dtype, vector, out);
  load_centred(meta, dtype, mean, vector, out);
}

PqCoder::PqCoder(const IndexParts& parts) : parts_(parts), opq_(opq_of(parts)) {}

void PqCoder::encode(uint64_t first, std::span<std::byte> codes, uint32_t threads,
                     Monitor& monitor) const {
  const size_t dim = parts_.meta.dim, bytes = parts_.meta.pq_bytes, count = codes.size() / bytes;
  const size_t grain = std::max<size_t>(1, (size_t{1} << 16) / dim);  // rows of 256 KiB of floats
  std::vector<float> rows(std::min(count, kChunk) * dim);
  for (size_t begin = 0; begin < count; begin += kChunk) {
    const size_t chunk = std::min(kChunk, count - begin);
    parallel_for(chunk, grain, threads, monitor, [&](size_t from, size_t to, uint32_t) {
      for (size_t i = from; i < to; ++i) {
        load_for_pq(parts_.meta, parts_.meta.dtype, parts_.mean.as<float>(),
                    row_of(parts_, first + begin + i), std::span(rows).subspan(i * dim, dim));
      }
    });
    opq_.encode({rows.data(), chunk, dim, Dtype::f32},
                reinterpret_cast<uint8_t*>(codes.data() + begin * bytes), threads, monitor);
  }
}

void encode_pq(IndexParts& parts, uint32_t threads, Monitor& monitor) {
  parts.pq_codes = {};
  if (parts.meta.pq_bytes == 0) return;
  Buffer codes(parts.meta.count * parts.meta.pq_bytes);
  PqCoder(parts).encode(0, {codes.data(), codes.size()}, threads, monitor);
  parts.pq_codes = std::move(codes);
}

}  // namespace bigrain::quant
