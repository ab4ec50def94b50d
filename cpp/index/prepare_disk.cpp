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

Buffer permuted(const Buffer& from, std::span<const uint32_t> order) {
  Buffer to(from.size());
  if (from.size() == 0) return to;
  const size_t bytes = from.size() / order.size();
  for (size_t i = 0; i < order.size(); ++i) {
    std::memcpy(to.data() + i * bytes, from.data() + order[i] * bytes, bytes);
  }
  return to;
}

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
  if (parts.ids.size() == 0) {
    parts.ids = Buffer(meta.count * sizeof(int64_t));
    const std::span<int64_t> ids = parts.ids.as<int64_t>();
    std::iota(ids.begin(), ids.end(), int64_t{0});
  }
  for (Buffer* buffer : {&parts.graph, &parts.codes, &parts.vectors, &parts.ids, &parts.pq_codes})
    *buffer = permuted(*buffer, order);
  // Padding is the vertex's own number and is renamed with it.
  for (uint32_t& id : parts.graph.as<uint32_t>()) id = number[id];
  meta.entry = number[meta.entry];
  parts.hot = {};
  parts.blocks = {};
}

void order_for_pages(IndexParts& parts, Monitor& monitor) {
  const uint32_t per_page = format::node_shape(parts.meta, true).nodes.per_page;
  if (per_page == 1 || parts.meta.count == 0) return;
  renumber(parts, graph::page_order(distances_of(parts, simd::active_kernels()), graph_of(parts),
                                    parts.meta.entry, per_page, monitor));
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
