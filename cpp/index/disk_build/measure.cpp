// SPDX-License-Identifier: Apache-2.0
#include "index/disk_build/measure.h"

#include <algorithm>
#include <unordered_map>

#include "quant/code_space.h"
#include "quant/scalar8.h"
#include "quant/score_bound.h"

namespace bigrain::disk_build {

namespace {

// As in index/prepare_disk.cpp: at most one point in so many is hot.
constexpr uint64_t kPointsPerHot = 8;

// A few points, numbered anew in the order in which they are met.
class Excerpt {
 public:
  uint32_t number(uint32_t id) {
    const auto [at, is_new] = numbers_.try_emplace(id, static_cast<uint32_t>(ids_.size()));
    if (is_new) ids_.push_back(id);
    return at->second;
  }
  const std::vector<uint32_t>& ids() const { return ids_; }

 private:
  std::unordered_map<uint32_t, uint32_t> numbers_;
  std::vector<uint32_t> ids_;
};

// Vectors and codes of the excerpt, into `parts`.
void load(const Excerpt& excerpt, RowReader& reader, const simd::Kernels& kernels,
          IndexParts& parts) {
  const size_t row = reader.row_bytes(), stride = code_stride(parts.meta.code_dim);
  parts.vectors = Buffer(excerpt.ids().size() * row);
  parts.codes = Buffer(excerpt.ids().size() * stride);
  const quant::CodeSpace space(parts, kernels);
  quant::MapScratch scratch;
  for (size_t i = 0; i < excerpt.ids().size(); ++i) {
    std::byte* const vector = parts.vectors.data() + i * row;
    reader.read(excerpt.ids()[i], 1, vector);
    quant::encode(space.map_row(vector, scratch), parts.meta.metric, stride,
                  parts.codes.data() + i * stride);
  }
}

}  // namespace

void measure_bound(IndexParts& parts, RowReader& reader, const RowFile& rows, size_t memory,
                   const simd::Kernels& kernels, Monitor& monitor) {
  const uint64_t count = parts.meta.count;
  const size_t degree = parts.meta.degree, point = reader.row_bytes() + code_stride(parts.meta.dim);
  const uint64_t fit = std::max<uint64_t>(memory / (point * (degree + 1)), 1);
  const uint64_t askers = std::min({quant::kBoundAskers, fit, count});
  Excerpt excerpt;
  for (uint64_t a = 0; a < askers; ++a) excerpt.number(static_cast<uint32_t>(a * count / askers));
  parts.graph = Buffer(askers * degree * sizeof(uint32_t));
  const std::span<uint32_t> graph = parts.graph.as<uint32_t>();
  std::vector<uint32_t> row;
  for (uint32_t a = 0; a < askers; ++a) {
    monitor.check();
    rows.read(excerpt.ids()[a], row);
    const auto own = graph.subspan(a * degree, degree);
    std::fill(own.begin(), own.end(), a);
    for (size_t j = 0; j < row.size(); ++j) own[j] = excerpt.number(row[j]);
  }
  load(excerpt, reader, kernels, parts);
  parts.meta.count = askers;
  quant::fit_score_bound(parts, kernels, monitor);
  parts.meta.count = count;
  for (Buffer* buffer : {&parts.graph, &parts.vectors, &parts.codes}) *buffer = {};
}

void choose_hot_rows(IndexParts& parts, const RowFile& rows, size_t block, Monitor& monitor) {
  const size_t degree = rows.stride();
  std::vector<uint32_t> named(rows.count()), points(rows.count());
  std::vector<uint32_t> read(std::max<size_t>(block, 1) * degree);
  for (uint64_t first = 0; first < rows.count(); first += read.size() / degree) {
    monitor.check();
    const size_t count = std::min<uint64_t>(read.size() / degree, rows.count() - first);
    rows.read_block(first, count, read.data());
    for (const uint32_t id : std::span(read).first(count * degree)) ++named[id];
  }
  for (uint32_t id = 0; id < points.size(); ++id) points[id] = id;
  const auto hot = static_cast<ptrdiff_t>(rows.count() / kPointsPerHot);
  std::partial_sort(
      points.begin(), points.begin() + hot, points.end(),
      [&](uint32_t a, uint32_t b) { return named[a] != named[b] ? named[a] > named[b] : a < b; });
  parts.hot = Buffer(static_cast<size_t>(hot) * sizeof(uint32_t));
  std::copy_n(points.begin(), hot, parts.hot.as<uint32_t>().begin());
}

}  // namespace bigrain::disk_build
