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

// The part of the mapping before centring.
void load_mapped(Metric metric, Dtype dtype, const void* vector, std::span<float> out) {
  load_vector(vector, dtype, out);
  if (metric == Metric::cosine) normalise(out);
}

class Fitter {
 public:
  Fitter(IndexParts& parts, const simd::Kernels& kernels, uint32_t threads, Monitor& monitor)
      : parts_(parts),
        kernels_(kernels),
        threads_(threads),
        monitor_(monitor),
        count_(parts.meta.count),
        dim_(parts.meta.dim),
        row_bytes_(parts.meta.dim * item_size(parts.meta.dtype)) {}

  void run() {
    const size_t stride = code_stride(dim_);
    parts_.mean = Buffer(dim_ * sizeof(float));
    parts_.signs = Buffer(kRotationRounds * ((dim_ + 7) / 8));
    parts_.codes = Buffer(count_ * stride);
    draw_signs(parts_.meta.seed, dim_, parts_.signs.as<uint8_t>());
    if (count_ == 0) return;
    if (parts_.meta.metric != Metric::ip) find_mean();
    encode_all(stride);
  }

 private:
  const void* vector(size_t i) const { return parts_.vectors.data() + i * row_bytes_; }

  void find_mean() {
    const auto load = [&](size_t i, std::span<float> x) {
      load_mapped(parts_.meta.metric, parts_.meta.dtype, vector(i), x);
    };
    mean_of_rows(count_, load, threads_, monitor_, parts_.mean.as<float>());
  }

  void encode_all(size_t stride) {
    const std::span<const float> mean = parts_.mean.as<float>();
    const std::span<const uint8_t> signs = parts_.signs.as<uint8_t>();
    const size_t grain = std::max<size_t>(1, kGrainElements / dim_);
    parallel_for(count_, grain, threads_, monitor_, [&](size_t begin, size_t end, uint32_t) {
      std::vector<float> x(dim_);
      for (size_t i = begin; i < end; ++i) {
        check_length(i, x);
        load_mapped(parts_.meta.metric, parts_.meta.dtype, vector(i), x);
        for (size_t j = 0; j < dim_; ++j) x[j] -= mean[j];
        rotate(signs, x, kernels_.hadamard);
        encode(x, parts_.meta.metric, stride, parts_.codes.data() + i * stride);
      }
    });
  }

  // `x` is scratch.
  void check_length(size_t i, std::span<float> x) const {
    load_vector(vector(i), parts_.meta.dtype, x);
    quant::check_length("vectors", i, x);
  }

  // Elements encoded at a time: some milliseconds, so that a poll is never far.
  static constexpr size_t kGrainElements = size_t{1} << 18;

  IndexParts& parts_;
  const simd::Kernels& kernels_;
  uint32_t threads_;
  Monitor& monitor_;
  size_t count_;
  uint32_t dim_;
  size_t row_bytes_;
};

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
      stride_(code_stride(dim_)),
      mean_(parts.mean.as<float>()),
      signs_(parts.signs.as<uint8_t>()),
      hadamard_(kernels.hadamard) {}

void CodeSpace::map_query(const void* query, std::span<float> out) const {
  load_mapped(metric_, dtype_ == Dtype::f16 ? Dtype::f32 : dtype_, query, out);
  for (size_t j = 0; j < dim_; ++j) out[j] -= mean_[j];
  rotate(signs_, out, hadamard_);
}

void fit_and_encode(IndexParts& parts, const simd::Kernels& kernels, uint32_t threads,
                    Monitor& monitor) {
  Fitter(parts, kernels, threads, monitor).run();
}

}  // namespace bigrain::quant
