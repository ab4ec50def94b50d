// SPDX-License-Identifier: Apache-2.0
#include "quant/code_space.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "bigrain/error.h"
#include "quant/mean.h"
#include "quant/rotation.h"
#include "quant/scalar8.h"
#include "util/half.h"
#include "util/thread_pool.h"

namespace bigrain::quant {

namespace {

// Elements encoded at a time: some milliseconds, so that a poll is never far.
constexpr size_t kGrainElements = size_t{1} << 18;

template <class T>
void copy_as_float(const void* vector, std::span<float> out) {
  const T* values = static_cast<const T*>(vector);
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(values[i]);
}

double squared_norm(std::span<const float> x) {
  double total = 0;
  for (float value : x) total += static_cast<double>(value) * value;
  return total;
}

void scale_by(std::span<float> x, double factor) {
  for (float& value : x) value = static_cast<float>(value * factor);
}

void normalise(std::span<float> x) {
  const double norm = std::sqrt(squared_norm(x));
  if (!(norm > 0)) {
    throw Error::invalid(
        "vector: zero norm under metric cosine; expected a direction; remove zero "
        "vectors or use another metric");
  }
  scale_by(x, 1 / norm);
}

void subtract(std::span<const float> mean, std::span<float> x) {
  for (size_t j = 0; j < x.size(); ++j) x[j] -= mean[j];
}

const std::byte* row_of(const IndexParts& parts, size_t i) {
  return parts.vectors.data() + i * parts.meta.dim * item_size(parts.meta.dtype);
}

// `x` is scratch.
void check_row_length(const IndexParts& parts, size_t i, std::span<float> x) {
  load_vector(row_of(parts, i), parts.meta.dtype, x);
  check_length("vectors", i, x);
}

}  // namespace

void load_vector(const void* vector, Dtype dtype, std::span<float> out) {
  switch (dtype) {
    case Dtype::f32:
      return copy_as_float<float>(vector, out);
    case Dtype::i8:
      return copy_as_float<int8_t>(vector, out);
    case Dtype::u8:
      return copy_as_float<uint8_t>(vector, out);
    case Dtype::f16: {
      const uint16_t* values = static_cast<const uint16_t*>(vector);
      for (size_t i = 0; i < out.size(); ++i) out[i] = half_to_float(values[i]);
    }
  }
}

void load_normalised(Metric metric, Dtype dtype, const void* vector, std::span<float> out) {
  load_vector(vector, dtype, out);
  if (metric == Metric::cosine) normalise(out);
}

void load_centred(const IndexParts& parts, const void* vector, std::span<float> out) {
  load_centred(parts.meta, parts.meta.dtype, parts.mean.as<float>(), vector, out);
}

void load_centred(const IndexMeta& meta, Dtype dtype, std::span<const float> mean,
                  const void* vector, std::span<float> out) {
  load_normalised(meta.metric, dtype, vector, out);
  subtract(mean, out);
}

void check_length(const char* name, size_t row, std::span<const float> x) {
  const double squared = squared_norm(x);
  if (squared <= kMaxSquaredNorm) return;
  throw Error::invalid(std::string(name) + ": row " + std::to_string(row) + " has squared length " +
                       std::to_string(squared) +
                       "; expected finite values and at most 8e37, so that distances fit float32; "
                       "remove the row or rescale the data");
}

CodeSpace::CodeSpace(const IndexParts& parts, const simd::Kernels& kernels)
    : metric_(parts.meta.metric),
      dtype_(parts.meta.dtype),
      dim_(parts.meta.dim),
      code_dim_(parts.meta.code_dim),
      mean_(parts.mean.as<float>()),
      signs_(parts.signs.as<uint8_t>()),
      hadamard_(kernels.hadamard) {
  if (parts.is_projected()) projection_.emplace(parts, kernels);
}

std::span<const float> CodeSpace::map_query(const void* query, MapScratch& scratch) const {
  return map(query, dtype_ == Dtype::f16 ? Dtype::f32 : dtype_, scratch);
}

std::span<const float> CodeSpace::map_row(const void* row, MapScratch& scratch) const {
  return map(row, dtype_, scratch);
}

std::span<const float> CodeSpace::map(const void* vector, Dtype dtype, MapScratch& scratch) const {
  scratch.centred.resize(dim_);
  load_normalised(metric_, dtype, vector, scratch.centred);
  subtract(mean_, scratch.centred);
  if (!projection_) {
    rotate(signs_, scratch.centred, hadamard_);
    return scratch.centred;
  }
  scratch.mapped.resize(code_dim_);
  projection_->apply(scratch.centred, scratch.projection, scratch.mapped);
  return scratch.mapped;
}

void fit_mean(IndexParts& parts, uint32_t threads, Monitor& monitor) {
  const IndexMeta& meta = parts.meta;
  parts.mean = Buffer(meta.dim * sizeof(float));
  if (meta.metric == Metric::ip) return;
  const auto load = [&](size_t i, std::span<float> x) {
    load_normalised(meta.metric, meta.dtype, row_of(parts, i), x);
  };
  mean_of_rows(meta.count, load, threads, monitor, parts.mean.as<float>());
}

void set_rotation(IndexParts& parts) {
  parts.signs = Buffer(kRotationRounds * ((parts.meta.dim + 7) / 8));
  draw_signs(parts.meta.seed, parts.meta.dim, parts.signs.as<uint8_t>());
}

void encode_all(IndexParts& parts, const simd::Kernels& kernels, uint32_t threads,
                Monitor& monitor) {
  const CodeSpace space(parts, kernels);
  const size_t dim = parts.meta.dim, count = parts.meta.count;
  parts.codes = Buffer(count * space.stride());
  const size_t grain = std::max<size_t>(1, kGrainElements / dim);
  parallel_for(count, grain, threads, monitor, [&](size_t begin, size_t end, uint32_t) {
    MapScratch scratch;
    std::vector<float> x(dim);
    for (size_t i = begin; i < end; ++i) {
      check_row_length(parts, i, x);
      encode(space.map_row(row_of(parts, i), scratch), parts.meta.metric, space.stride(),
             parts.codes.data() + i * space.stride());
    }
  });
}

}  // namespace bigrain::quant
