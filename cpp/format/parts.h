// SPDX-License-Identifier: Apache-2.0
// What an index consists of, as arrays: the one structure that builders fill, files hold and
// searches read. No behaviour lives here.
#pragma once

#include <cstdint>
#include <limits>
#include <tuple>
#include <vector>

#include "bigrain/params.h"
#include "bigrain/types.h"
#include "util/buffer.h"

namespace bigrain {

// One point of the calibrated recall curve (Index::tune).
struct TunePoint {
  uint32_t k;
  uint32_t width;
  float recall;
  uint32_t rerank = 0;                                   // 0: default_rerank(k, width)
  float slack = std::numeric_limits<float>::infinity();  // SearchParams::slack

  // Under inner product there is no slack.
  bool in_range(Metric metric) const {
    const bool fits = metric != Metric::ip || slack == std::numeric_limits<float>::infinity();
    return fits && k >= kMinK && k <= kMaxK && width >= kMinWidth && width <= kMaxWidth &&
           recall >= 0 && recall <= 1 && rerank <= kMaxWidth && slack >= 0;
  }
};
static_assert(sizeof(TunePoint) == 20);
// The order of a curve's points, without repetition.
inline bool ascending(const TunePoint& a, const TunePoint& b) {
  return std::tie(a.k, a.width, a.rerank, a.slack) < std::tie(b.k, b.width, b.rerank, b.slack);
}

// Codes, then float32 scale and bias in the last 8 bytes; whole cache lines.
constexpr uint32_t code_stride(uint32_t dim) { return (dim + 8 + 63) / 64 * 64; }
// The longest rows that are taken: the squared distance of two such rows, up to four times as much,
// stays below FLT_MAX = 3.4e38. (The Python face refuses sums above 8e37 in float32; the rest is
// room for its rounding.)
inline constexpr double kMaxSquaredNorm = 8.1e37;
inline constexpr uint32_t kRotationRounds = 4;

struct IndexMeta {
  Metric metric = Metric::l2;
  Dtype dtype = Dtype::f32;
  uint32_t dim = 1;
  uint32_t code_dim = 0;     // dimensions of the codes, 1 to dim; below dim: they are projected
  uint64_t count = 0;        // n
  uint32_t degree = 0;       // R
  uint32_t entry = 0;        // internal id where searches start; 0 when n = 0
  uint32_t build_width = 0;  // provenance, as given to build
  float alpha = 0;           // provenance
  uint64_t seed = 0;         // provenance
  // How far distances lie below what codes say (quant/score_bound.h); ratio 0: not measured.
  float bound_ratio = 0, bound_offset = 0;
  uint32_t pq_bytes = 0;  // m, bytes of a PQ code; 0: there are none
  uint32_t pq_dim = 0;    // dimensions that are cut into m sub-vectors, m to dim
  // They are not of this library's making (Index::set_codes): vectors are coded without the mean
  // subtracted, and the codes need not be those of the vectors.
  bool pq_given = false;
};
inline constexpr float kMaxBoundRatio = 16.0f;
inline constexpr uint32_t kPqCentroids = 256;

// What a code dimension would cost: measured when the build chose one (index/choose_code_dim.h).
struct CodeDimTrial {
  uint32_t code_dim;
  float rerank;  // candidates to rank exactly for kTrialRecall of the 10 nearest
  float cost;    // cache lines read by a typical query
  uint32_t reserved = 0;
};
static_assert(sizeof(CodeDimTrial) == 16);
inline constexpr uint32_t kTrialK = 10;  // neighbours that a trial looks for

struct IndexParts {
  IndexMeta meta;
  Buffer graph;    // n x R uint32; a row shorter than R is padded with the vertex's own id
  Buffer codes;    // n x code_stride(code_dim) bytes
  Buffer vectors;  // n x dim elements of dtype, as the user gave them
  Buffer ids;      // n int64 external ids, or empty: external id = internal id
  Buffer mean;     // dim float32: subtracted before the rotation
  // How vectors become codes: rotated by `signs` where code_dim == dim, else projected.
  Buffer signs;       // kRotationRounds x ceil(dim / 8) bytes: sign bits of the rotation
  Buffer scales;      // dim float32: coordinates are divided by these before the projection
  Buffer projection;  // code_dim x code_stride(dim) bytes: its rows, as code records
  // Product-quantized codes, for searches that may hold little in memory (quant/opq.h).
  Buffer pq_rotation;   // dim x pq_dim float32, orthonormal columns
  Buffer pq_codebooks;  // the centroids: pq_dim x kPqCentroids float32 in all
  Buffer pq_codes;      // n x pq_bytes; or empty: save() makes them, unless they were given
  Buffer hot;           // uint32 point numbers whose rows searches read most, hottest first
  Buffer sums;          // uint32 per page of records, where pages are read later; else empty
  // Derived, in no file: the fast layout (quant/neighbour_blocks.h), or empty, and its unit.
  Buffer blocks;
  float block_unit = 1;
  std::vector<TunePoint> tuning;     // sorted by (k, width, rerank, slack)
  std::vector<CodeDimTrial> trials;  // sorted by code_dim; empty where none was made

  bool is_projected() const { return meta.code_dim != meta.dim; }
};

}  // namespace bigrain
