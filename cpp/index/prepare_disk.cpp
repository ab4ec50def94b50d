// SPDX-License-Identifier: Apache-2.0
#include "index/prepare_disk.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "format/nodes.h"
#include "graph/page_order.h"
#include "quant/kmeans.h"
#include "quant/pq_coder.h"
#include "search/disk_terrain.h"
#include "search/greedy.h"
#include "simd/kernels.h"
#include "util/thread_pool.h"

namespace bigrain {

namespace {

// Walks that count who is expanded: one per so many points, since a build makes one per point, and
// not fewer than gave the figures of bench/LOG.md, "reads of a walk on an SSD".
constexpr uint64_t kPointsPerWalk = 20, kLeastWalks = 3'000;
// About the width of searches for recall .95 to .99.
constexpr uint32_t kWalkWidth = 32;
// At most one point in so many is hot: 16 bytes of rows per point at R = 32. More memory is better
// spent on all rows (docs/design.md).
constexpr uint64_t kPointsPerHot = 8;

graph::CodeDistances distances_of(const IndexParts& parts, const simd::Kernels& kernels) {
  return {{parts.codes.data(), code_stride(parts.meta.code_dim)},
          kernels.score_codes,
          parts.meta.metric == Metric::ip};
}

search::GraphView graph_of(const IndexParts& parts) {
  return {parts.graph.as<uint32_t>().data(), parts.meta.degree, parts.meta.count};
}

// Moves whole records, cycle by cycle, so that one of them is held beside the buffer.
class Permuter {
 public:
  // most_bytes: of a record. All that can throw.
  Permuter(std::span<const uint32_t> order, size_t most_bytes)
      : order_(order), moved_(order.size()), held_(most_bytes) {}

  void apply(Buffer& buffer) noexcept {
    if (buffer.size() == 0) return;
    std::fill(moved_.begin(), moved_.end(), false);
    const size_t bytes = buffer.size() / order_.size();
    const auto record = [&](size_t i) { return buffer.data() + i * bytes; };
    for (size_t first = 0; first < order_.size(); ++first) {
      if (moved_[first]) continue;
      std::memcpy(held_.data(), record(first), bytes);
      size_t to = first;
      for (; order_[to] != first; to = order_[to]) {
        std::memcpy(record(to), record(order_[to]), bytes);
        moved_[to] = true;
      }
      std::memcpy(record(to), held_.data(), bytes);
      moved_[to] = true;
    }
  }

 private:
  std::span<const uint32_t> order_;
  std::vector<bool> moved_;
  std::vector<std::byte> held_;
};

// How often each point is expanded on the way to a sample of them.
std::vector<uint32_t> count_visits(const IndexParts& parts, uint32_t threads, Monitor& monitor) {
  const uint64_t count = parts.meta.count;
  const graph::CodeDistances distances = distances_of(parts, simd::active_kernels());
  const search::Terrain terrain{graph_of(parts), distances.codes, distances.score_codes};
  const std::vector<uint32_t> entries = search::disk_entries(count);
  const std::vector<uint32_t> targets =
      quant::sample_rows(count, std::max(kLeastWalks, count / kPointsPerWalk), parts.meta.seed);
  const auto visits = std::make_unique<std::atomic<uint32_t>[]>(count);
  constexpr size_t kGrain = 64;
  parallel_for(targets.size(), kGrain, threads, monitor, [&](size_t begin, size_t end, uint32_t) {
    search::GreedyScratch scratch;
    search::GreedyWalk walk;
    graph::Pivot pivot(distances.codes.stride);
    for (size_t i = begin; i < end; ++i) {
      pivot.set(distances, targets[i]);
      walk.start(terrain, pivot.query(), entries, kWalkWidth, kWalkWidth, scratch);
      while (walk.has_next()) {
        visits[walk.next()].fetch_add(1, std::memory_order_relaxed);
        walk.gather();
        walk.score();
      }
    }
  });
  return {visits.get(), visits.get() + count};
}

}  // namespace

void renumber(IndexParts& parts, std::span<const uint32_t> order) {
  IndexMeta& meta = parts.meta;
  std::vector<uint32_t> number(order.size());
  for (size_t i = 0; i < order.size(); ++i) number[order[i]] = static_cast<uint32_t>(i);
  Permuter permuter(
      order, std::max<size_t>({meta.degree * sizeof(uint32_t), code_stride(meta.code_dim),
                               sizeof(int64_t), meta.dim * item_size(meta.dtype), meta.pq_bytes}));
  if (parts.ids.size() == 0) {
    parts.ids = Buffer(meta.count * sizeof(int64_t));
    const std::span<int64_t> ids = parts.ids.as<int64_t>();
    std::iota(ids.begin(), ids.end(), int64_t{0});
  }
  for (Buffer* buffer : {&parts.graph, &parts.codes, &parts.vectors, &parts.ids, &parts.pq_codes})
    permuter.apply(*buffer);
  // Padding is the vertex's own number and is renamed with it.
  for (uint32_t& id : parts.graph.as<uint32_t>()) id = number[id];
  meta.entry = number[meta.entry];
  parts.hot = {};
  parts.blocks = {};
}

std::vector<uint32_t> page_numbers(const IndexParts& parts, Monitor& monitor) {
  const uint32_t per_page = format::node_shape(parts.meta, true).nodes.per_page;
  if (per_page == 1 || parts.meta.count == 0) return {};
  return graph::page_order(distances_of(parts, simd::active_kernels()), graph_of(parts),
                           parts.meta.entry, per_page, monitor);
}

void order_for_pages(IndexParts& parts, Monitor& monitor) {
  const std::vector<uint32_t> order = page_numbers(parts, monitor);
  if (!order.empty()) renumber(parts, order);
}

void choose_hot(IndexParts& parts, uint32_t threads, Monitor& monitor) {
  parts.hot = {};
  if (parts.meta.count == 0) return;
  const std::vector<uint32_t> visits = count_visits(parts, resolve_threads(threads), monitor);
  std::vector<uint32_t> points;
  for (uint32_t id = 0; id < visits.size(); ++id)
    if (visits[id] > 0) points.push_back(id);
  std::sort(points.begin(), points.end(), [&](uint32_t a, uint32_t b) {
    return visits[a] != visits[b] ? visits[a] > visits[b] : a < b;
  });
  points.resize(std::min<uint64_t>(points.size(), parts.meta.count / kPointsPerHot));
  parts.hot = Buffer(points.size() * sizeof(uint32_t));
  std::copy(points.begin(), points.end(), parts.hot.as<uint32_t>().data());
}

void prepare_disk(IndexParts& parts, uint32_t pq_bytes, uint32_t threads, Monitor& monitor) {
  order_for_pages(parts, monitor);
  quant::fit_pq(parts, pq_bytes, threads, monitor);
  choose_hot(parts, threads, monitor);
}

}  // namespace bigrain
