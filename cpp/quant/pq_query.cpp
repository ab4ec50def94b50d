// SPDX-License-Identifier: Apache-2.0
#include "quant/pq_query.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "bigrain/error.h"
#include "quant/pq.h"
#include "quant/pq_coder.h"
#include "util/half.h"

namespace bigrain::quant {

namespace {

// Codes scored at once: enough to overlap their misses and chains of additions.
constexpr size_t kGroup = 8;
// Groups between the one scored and the one asked for.
constexpr size_t kAhead = 1;

void check_size(const char* section, size_t found, uint64_t expected) {
  if (found == expected) return;
  throw Error::corrupt(std::string("section ") + section + ": found " + std::to_string(found) +
                       " values; expected " + std::to_string(expected) +
                       "; build the index or copy its file again");
}

// Of numbers up to 1, as orthonormal columns hold.
uint16_t nearest_half(float value) {
  const float magnitude = std::fabs(value);
  const uint16_t below = half_below(magnitude);
  const float low = half_to_float(below), high = half_to_float(below + 1);
  const bool up = high - magnitude < magnitude - low;
  return static_cast<uint16_t>((below + (up ? 1 : 0)) | (std::signbit(value) ? 0x8000 : 0));
}

PqShape shape_of(const IndexMeta& meta) { return {meta.pq_dim, meta.pq_bytes, 8}; }

}  // namespace

PqSpace::PqSpace(const IndexParts& parts)
    : meta_(parts.meta),
      mean_(parts.mean.as<float>()),
      minus_dot_(simd::active_kernels().distance_of(Metric::ip, precision())) {
  const size_t dim = meta_.pq_dim;
  const std::span<const float> rotation = parts.pq_rotation.as<float>();
  check_size("pq_rotation", rotation.size(), uint64_t{meta_.dim} * dim);
  check_size("mean", mean_.size(), meta_.dim);
  const std::span<const float> books = parts.pq_codebooks.as<float>();
  check_size("pq_codebooks", books.size(), dim * kPqCentroids);
  columns_.resize(books.size());
  directions_ = Buffer(rotation.size() * item_size(precision()));
  for (size_t k = 0; k < meta_.dim; ++k) {
    for (size_t j = 0; j < dim; ++j) {
      const float entry = rotation[k * dim + j];
      const size_t to = j * meta_.dim + k;
      if (meta_.pq_given) {
        directions_.as<float>()[to] = entry;
      } else {
        directions_.as<uint16_t>()[to] = nearest_half(entry);
      }
    }
  }
  const PqShape shape = shape_of(meta_);
  for (size_t sub = 0; sub < shape.subs; ++sub) {
    const size_t first = shape.first(sub), length = shape.length(sub);
    for (size_t j = 0; j < kPqCentroids; ++j)
      for (size_t t = 0; t < length; ++t)
        columns_[(first + t) * kPqCentroids + j] = books[first * kPqCentroids + j * length + t];
  }
}

void PqQuery::prepare(const PqSpace& space, const void* query) {
  subs_ = space.meta_.pq_bytes;
  rotate(space, query);
  fill_tables(space);
}

void PqQuery::rotate(const PqSpace& space, const void* query) {
  const IndexMeta& meta = space.meta_;
  whole_.resize(meta.dim);
  load_for_pq(meta, meta.dtype == Dtype::f16 ? Dtype::f32 : meta.dtype, space.mean_, query, whole_);
  rotated_.resize(meta.pq_dim);
  const size_t stride = meta.dim * item_size(space.precision());
  for (size_t j = 0; j < meta.pq_dim; ++j) {
    const std::byte* const direction = space.directions_.data() + j * stride;
    rotated_[j] = -space.minus_dot_(whole_.data(), direction, meta.dim);
  }
}

void PqQuery::fill_tables(const PqSpace& space) {
  const PqShape shape = shape_of(space.meta_);
  const Metric metric = space.meta_.metric;
  const bool inner_product =
      metric == Metric::ip || (metric == Metric::cosine && space.meta_.pq_given);
  tables_.assign(subs_ * kPqCentroids, 0.0f);
  for (size_t sub = 0; sub < subs_; ++sub) {
    float* const table = tables_.data() + sub * kPqCentroids;
    for (size_t t = shape.first(sub); t < shape.first(sub) + shape.length(sub); ++t) {
      const float* const column = space.columns_.data() + t * kPqCentroids;
      const float x = rotated_[t];
      if (inner_product) {
        for (size_t j = 0; j < kPqCentroids; ++j) table[j] -= 2 * x * column[j];
      } else {
        for (size_t j = 0; j < kPqCentroids; ++j) table[j] += (x - column[j]) * (x - column[j]);
      }
    }
  }
}

void PqQuery::score(const uint8_t* codes, std::span<const uint32_t> ids, float* out) const {
  const size_t count = ids.size();
  const auto code_of = [&](size_t i) {
    return codes + size_t{ids[std::min(i, count - 1)]} * subs_;
  };
  for (size_t i = 0; i < std::min(count, kAhead * kGroup); ++i) __builtin_prefetch(code_of(i));
  for (size_t i = 0; i < count; i += kGroup) {
    const uint8_t* code[kGroup];
    for (size_t r = 0; r < kGroup; ++r) {
      code[r] = code_of(i + r);
      const uint8_t* const ahead = code_of(i + r + kAhead * kGroup);
      __builtin_prefetch(ahead);
      __builtin_prefetch(ahead + subs_ - 1);
    }
    float sums[kGroup] = {};
    const float* table = tables_.data();
    for (size_t sub = 0; sub < subs_; ++sub, table += kPqCentroids)
      for (size_t r = 0; r < kGroup; ++r) sums[r] += table[code[r][sub]];
    std::copy_n(sums, std::min(kGroup, count - i), out + i);
  }
}

}  // namespace bigrain::quant
