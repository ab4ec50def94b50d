// SPDX-License-Identifier: Apache-2.0
#include "format/layout.h"

#include <cmath>
#include <limits>
#include <string>

#include "bigrain/error.h"
#include "bigrain/params.h"
#include "format/nodes.h"

namespace bigrain::format {

namespace {

template <class T>
void check_range(const char* name, T value, T low, T high) {
  // Written so that NaN fails.
  if (value >= low && value <= high) return;
  throw Error::corrupt(std::string("header: ") + name + " is " + std::to_string(value) +
                       ", expected " + std::to_string(low) + " to " + std::to_string(high));
}

uint64_t multiply(uint64_t a, uint64_t b) {
  uint64_t product;
  if (__builtin_mul_overflow(a, b, &product)) throw Error::corrupt("header: sizes overflow");
  return product;
}

uint64_t add(uint64_t a, uint64_t b) {
  uint64_t sum;
  if (__builtin_add_overflow(a, b, &sum)) throw Error::corrupt("header: sizes overflow");
  return sum;
}

}  // namespace

const char* name_of(SectionKind kind) {
  static constexpr const char* kNames[] = {
      "graph",  "codes",       "vectors",      "ids",      "mean",  "signs",
      "tuning", "scales",      "projection",   "trials",   "nodes", "fulls",
      "sums",   "pq_rotation", "pq_codebooks", "pq_codes", "hot"};
  static_assert(std::size(kNames) == kLastSectionKind);
  const auto value = static_cast<uint32_t>(kind);
  return value >= 1 && value <= std::size(kNames) ? kNames[value - 1] : "unknown";
}

void check_ranges(const IndexMeta& meta) {
  check_range<uint64_t>("the number of points", meta.count, 0, kMaxPoints);
  check_range<uint32_t>("the dimension", meta.dim, kMinDim, kMaxDim);
  check_range<uint32_t>("the dimension of the codes", meta.code_dim, 1, meta.dim);
  check_range<uint32_t>("the degree", meta.degree, kMinDegree, kMaxDegree);
  check_range<uint32_t>("the element type", static_cast<uint32_t>(meta.dtype), 0, kDtypeCount - 1);
  check_range<uint32_t>("the metric", static_cast<uint32_t>(meta.metric), 0, kMetricCount - 1);
  const uint32_t last = meta.count == 0 ? 0 : static_cast<uint32_t>(meta.count - 1);
  check_range<uint32_t>("the entry point", meta.entry, 0, last);
  check_range<uint32_t>("the build width", meta.build_width, kMinBuildWidth, kMaxBuildWidth);
  check_range<float>("alpha", meta.alpha, kMinAlpha, kMaxAlpha);
  check_range<float>("the ratio of the score bound", meta.bound_ratio, 0.0f, kMaxBoundRatio);
  check_range<float>("the offset of the score bound", meta.bound_offset, 0.0f,
                     std::numeric_limits<float>::max());
  check_range<uint32_t>("the size of a PQ code", meta.pq_bytes, 0, meta.dim);
  check_range<uint32_t>("the dimension of PQ codes", meta.pq_dim, meta.pq_bytes,
                        meta.pq_bytes == 0 ? 0 : meta.dim);
}

Layout compute_layout(const IndexMeta& meta, const OptionalCounts& counts) {
  Layout layout;
  const auto append = [&layout](SectionKind kind, size_t element_size, uint64_t count) {
    if (count == 0) return;
    const uint64_t length = multiply(element_size, count);
    layout.sections.push_back(
        {kind, static_cast<uint32_t>(element_size), layout.file_length, length, count});
    layout.payload = add(layout.payload, length);
    const uint64_t end = add(layout.file_length, length);
    layout.file_length = multiply(end / kAlignment + (end % kAlignment != 0), kAlignment);
  };
  const bool projected = meta.code_dim != meta.dim;
  if (counts.nodes) {
    const NodeShape shape = node_shape(meta, counts.ids);
    append(SectionKind::nodes, kPageBytes, shape.nodes.pages());
    append(SectionKind::fulls, kPageBytes, shape.fulls.pages());
    append(SectionKind::sums, sizeof(uint32_t), shape.pages());
  } else {
    append(SectionKind::graph, sizeof(uint32_t), multiply(meta.count, meta.degree));
  }
  append(SectionKind::codes, code_stride(meta.code_dim), meta.count);
  if (!counts.nodes) {
    append(SectionKind::vectors, item_size(meta.dtype), multiply(meta.count, meta.dim));
    append(SectionKind::ids, sizeof(int64_t), counts.ids ? meta.count : 0);
  }
  append(SectionKind::mean, sizeof(float), meta.dim);
  append(SectionKind::signs, 1, projected ? 0 : signs_bytes(meta.dim));
  append(SectionKind::scales, sizeof(float), projected ? meta.dim : 0);
  append(SectionKind::projection, code_stride(meta.dim), projected ? meta.code_dim : 0);
  append(SectionKind::tuning, counts.slack ? sizeof(TunePoint) : kPlainTuneBytes,
         counts.tune_points);
  append(SectionKind::trials, sizeof(CodeDimTrial), counts.trials);
  append(SectionKind::pq_rotation, sizeof(float), multiply(meta.dim, meta.pq_dim));
  append(SectionKind::pq_codebooks, sizeof(float), multiply(kPqCentroids, meta.pq_dim));
  append(SectionKind::pq_codes, meta.pq_bytes, meta.pq_bytes == 0 ? 0 : meta.count);
  append(SectionKind::hot, sizeof(uint32_t), counts.hot);
  return layout;
}

}  // namespace bigrain::format
