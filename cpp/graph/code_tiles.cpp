// SPDX-License-Identifier: Apache-2.0
#include "graph/code_tiles.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "quant/scalar8.h"
#include "util/thread_pool.h"

namespace bigrain::graph {

namespace {

// Four columns by four steps of four codes are transposed at once, in the compiler's portable
// vector type.
using Four = int32_t __attribute__((vector_size(16)));

Four load_four(const std::byte* from) {
  Four value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// to[k][c] = from[c][k] for four columns and four steps.
void transpose(const std::byte* const (&from)[4], size_t offset, std::byte* to, size_t to_stride) {
  const Four a = load_four(from[0] + offset), b = load_four(from[1] + offset);
  const Four c = load_four(from[2] + offset), d = load_four(from[3] + offset);
  const Four ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  const Four ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Four cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const Four cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  const Four steps[4] = {__builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5),
                         __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7),
                         __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5),
                         __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7)};
  for (size_t k = 0; k < 4; ++k) std::memcpy(to + k * to_stride, &steps[k], sizeof(Four));
}

// Whole sixteens of codes pack faster, but may not reach the constants that close a record.
size_t depth_of(size_t dim, size_t stride) {
  const size_t sixteens = (dim + 15) / 16 * 16;
  return sixteens + sizeof(quant::CodeConstants) <= stride ? sixteens : (dim + 3) / 4 * 4;
}

simd::TileRow tile_row(const std::byte* record, size_t stride, size_t depth, Geometry geometry) {
  const int8_t* const code = reinterpret_cast<const int8_t*>(record);
  const quant::CodeConstants own = quant::constants_of(record, stride);
  int32_t sum = 0, squares = 0;
  for (size_t k = 0; k < depth; ++k) {
    sum += code[k];
    squares += code[k] * code[k];
  }
  const float norm = (own.scale * own.scale) * static_cast<float>(squares);
  return {code, sum, -2.0f * own.scale, geometry == Geometry::euclidean ? norm : own.bias};
}

constexpr size_t kGrain = 1024;  // records read at a time: a millisecond or less

}  // namespace

TileSource::TileSource(const CodeDistances& distances, const simd::Kernels& kernels, size_t dim,
                       size_t count, Geometry geometry, uint32_t threads, Monitor& monitor)
    : kernels_(kernels),
      depth_(depth_of(dim, distances.codes.stride)),
      is_euclidean_(geometry == Geometry::euclidean || !distances.inner_product),
      rows_(count) {
  parallel_for(count, kGrain, threads, monitor, [&](size_t begin, size_t end, uint32_t) {
    for (size_t i = begin; i < end; ++i) {
      rows_[i] = tile_row(distances.codes.record(static_cast<uint32_t>(i)), distances.codes.stride,
                          depth_, geometry);
    }
  });
}

void Panels::pack(const TileSource& source, std::span<const uint32_t> ids) {
  const size_t tile = source.kernels().code_tile_cols, depth = source.depth();
  count_ = ids.size();
  columns_ = (count_ + kColumnMultiple - 1) / kColumnMultiple * kColumnMultiple;
  panel_bytes_ = tile * depth;
  if (codes_.size() < columns_ * depth) codes_ = Buffer(columns_ * depth);
  scales_.assign(columns_, 0.0f);
  biases_.assign(columns_, std::numeric_limits<float>::infinity());
  for (size_t c = 0; c < count_; ++c) {
    const simd::TileRow& row = source.row(ids[c]);
    scales_[c] = -0.5f * row.factor;
    biases_[c] = row.bias;
  }
  const size_t step = 4 * tile;
  for (size_t c = 0; c < columns_; c += 4) {
    const std::byte* from[4];
    for (size_t i = 0; i < 4; ++i) {
      from[i] =
          reinterpret_cast<const std::byte*>(source.row(ids[std::min(c + i, count_ - 1)]).code);
    }
    std::byte* const to = codes_.data() + c / tile * panel_bytes_ + c % tile * 4;
    size_t k = 0;
    for (; k + 16 <= depth; k += 16) transpose(from, k, to + k / 4 * step, step);
    for (; k < depth; k += 4) {
      for (size_t i = 0; i < 4; ++i) std::memcpy(to + k / 4 * step + 4 * i, from[i] + k, 4);
    }
  }
}

void Panels::distances(const TileSource& source, std::span<const simd::TileRow> rows,
                       float* out) const {
  const size_t tile = source.kernels().code_tile_cols;
  const size_t tile_rows = source.kernels().code_tile_rows;
  for (size_t c = 0; c < columns_; c += tile) {
    const simd::CodePanel panel{codes_.data() + c / tile * panel_bytes_, &scales_[c], &biases_[c]};
    for (size_t r = 0; r < rows.size(); r += tile_rows) {
      source.kernels().distance_tile(rows.data() + r, std::min(tile_rows, rows.size() - r), panel,
                                     source.depth(), out + r * columns_ + c, columns_);
    }
  }
}

}  // namespace bigrain::graph
