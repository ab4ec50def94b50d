// SPDX-License-Identifier: Apache-2.0
#include "graph/vamana.h"

#include <algorithm>
#include <numeric>

#include "graph/linker.h"
#include "graph/repair.h"
#include "util/rng.h"
#include "util/thread_pool.h"

namespace bigrain::graph {

namespace {

// ParlayANN's cap: points of one batch do not see each other, so batches stay a small share of n.
constexpr double kBatchShare = 0.02;
constexpr uint64_t kOrderStream = 1;  // apart from the rotation's, which is 0

// The entry comes first: it is the graph that the first batch searches.
std::vector<uint32_t> insertion_order(size_t count, uint32_t entry, uint64_t seed) {
  std::vector<uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0u);
  Rng rng(seed, kOrderStream);
  shuffle(std::span(order), rng);
  std::iter_swap(order.begin(), std::find(order.begin(), order.end(), entry));
  return order;
}

}  // namespace

Buffer build_vamana(const CodeDistances& distances, size_t count, uint32_t entry,
                    const VamanaParams& params, Monitor& monitor) {
  Linker linker(distances, count, {params.degree, params.alpha, resolve_threads(params.threads)},
                monitor);
  // Every vertex that the search expanded: near ones, and far ones on the way.
  const auto search_graph = [&](uint32_t point, LinkWorker& w) {
    QueryStats stats;
    w.pivot.set(distances, point);
    w.candidates.clear();
    search::greedy_search(linker.rows().view(), distances.codes, w.pivot.query(),
                          distances.score_codes, entry, params.width, params.width, w.greedy, stats,
                          &w.candidates);
    for (search::ScoredId& candidate : w.candidates) candidate.score += w.pivot.offset();
  };
  monitor.start(count);
  const std::vector<uint32_t> order = insertion_order(count, entry, params.seed);
  const size_t cap =
      std::max<size_t>(1, static_cast<size_t>(kBatchShare * static_cast<double>(count)));
  for (size_t begin = 1; begin < count;) {
    const size_t size = std::min({begin, cap, count - begin});
    linker.choose(std::span(order).subspan(begin, size), search_graph);
    linker.connect();
    monitor.advance(size);
    begin += size;
  }
  Rows rows = linker.finish();
  repair(rows, distances, entry, params.width, monitor);
  return std::move(rows).take();
}

}  // namespace bigrain::graph
