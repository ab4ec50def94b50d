// SPDX-License-Identifier: Apache-2.0
#include "graph/vamana.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "graph/repair.h"
#include "graph/reverse_edges.h"
#include "graph/rows.h"
#include "util/rng.h"
#include "util/thread_pool.h"

namespace bigrain::graph {

namespace {

// DiskANN's GRAPH_SLACK_FACTOR: rows may outgrow R by this before a prune is paid for.
constexpr float kSlack = 1.3f;
// ParlayANN's cap: points of one batch do not see each other, so batches stay a small share of n.
constexpr double kBatchShare = 0.02;
// Points handed out at a time: long enough to keep the counter cold, and short enough for polls: a
// point takes some 10,000 distances, 16 of them about 20 ms at 1 KB a record.
constexpr size_t kMaxGrain = 16, kGrainBytes = 16 * 1024;

struct Worker {
  Worker(size_t stride) : prune(stride), pivot(stride) {}

  search::GreedyScratch greedy;
  PruneScratch prune;
  Pivot pivot;  // the point whose neighbours are sought
  std::vector<search::ScoredId> candidates;
  std::vector<uint32_t> row;
  std::vector<float> to_row;
};

class Builder {
 public:
  Builder(const CodeDistances& distances, size_t count, uint32_t entry, const VamanaParams& params,
          Monitor& monitor)
      : distances_(distances),
        params_(params),
        entry_(entry),
        monitor_(monitor),
        threads_(resolve_threads(params.threads)),
        rows_(count, slack_stride(params.degree)),
        workers_(threads_) {}

  Buffer run() {
    monitor_.start(rows_.count());
    const std::vector<uint32_t> order = insertion_order();
    const size_t cap =
        std::max<size_t>(1, static_cast<size_t>(kBatchShare * static_cast<double>(order.size())));
    for (size_t begin = 1; begin < order.size();) {
      const size_t size = std::min({begin, cap, order.size() - begin});
      insert(std::span(order).subspan(begin, size));
      begin += size;
    }
    Rows final_rows = shrink();
    repair(final_rows, distances_, entry_, params_.width, monitor_);
    return std::move(final_rows).take();
  }

 private:
  static size_t slack_stride(uint32_t degree) {
    return static_cast<size_t>(std::ceil(kSlack * static_cast<float>(degree)));
  }

  Worker& worker(uint32_t index) {
    if (!workers_[index]) workers_[index] = std::make_unique<Worker>(distances_.codes.stride);
    return *workers_[index];
  }

  // The entry comes first: it is the graph that the first batch searches.
  std::vector<uint32_t> insertion_order() const {
    std::vector<uint32_t> order(rows_.count());
    std::iota(order.begin(), order.end(), 0u);
    Rng rng(params_.seed, kOrderStream);
    shuffle(std::span(order), rng);
    std::iter_swap(order.begin(), std::find(order.begin(), order.end(), entry_));
    return order;
  }

  void insert(std::span<const uint32_t> batch) {
    const size_t degree = params_.degree;
    chosen_.resize(batch.size() * degree);
    chosen_counts_.resize(batch.size());
    for_each(batch.size(), [&](size_t i, Worker& w) {
      find_candidates(batch[i], w);
      chosen_counts_[i] = static_cast<uint32_t>(robust_prune(
          distances_, w.candidates, params_.alpha, degree, w.prune, &chosen_[i * degree]));
    });
    edges_.clear();
    for (size_t i = 0; i < batch.size(); ++i) {
      const std::span<const uint32_t> chosen(&chosen_[i * degree], chosen_counts_[i]);
      rows_.assign(batch[i], chosen);
      for (uint32_t target : chosen) edges_.push_back({target, batch[i]});
    }
    group_by_target(edges_, edge_scratch_, groups_);
    for_each(groups_.size() - 1, [&](size_t g, Worker& w) {
      add_reverse_edges(std::span(edges_).subspan(groups_[g], groups_[g + 1] - groups_[g]), w);
    });
    monitor_.advance(batch.size());
  }

  // Every vertex that the search expanded: near ones, and far ones on the way.
  void find_candidates(uint32_t point, Worker& w) {
    QueryStats stats;
    w.pivot.set(distances_, point);
    w.candidates.clear();
    search::greedy_search(rows_.view(), distances_.codes, w.pivot.query(), distances_.score_codes,
                          entry_, params_.width, params_.width, w.greedy, stats, &w.candidates);
    for (search::ScoredId& candidate : w.candidates) candidate.score += w.pivot.offset();
  }

  void add_reverse_edges(std::span<const Edge> edges, Worker& w) {
    const uint32_t target = edges.front().target;
    const std::span<const uint32_t> row = rows_.row(target);
    if (row.size() + edges.size() <= rows_.stride()) {
      for (const Edge& edge : edges) rows_.append(target, edge.source);
      return;
    }
    w.row.assign(row.begin(), row.end());
    for (const Edge& edge : edges) w.row.push_back(edge.source);
    prune_row(target, w);
    rows_.assign(target, w.row);
  }

  // w.row: the neighbours to choose from; then the chosen ones.
  void prune_row(uint32_t point, Worker& w) {
    w.to_row.resize(w.row.size());
    w.pivot.set(distances_, point);
    w.pivot.distances_to(distances_, w.row, w.to_row.data());
    w.candidates.clear();
    for (size_t i = 0; i < w.row.size(); ++i) w.candidates.push_back({w.to_row[i], w.row[i]});
    w.row.resize(std::max<size_t>(w.row.size(), params_.degree));
    w.row.resize(robust_prune(distances_, w.candidates, params_.alpha, params_.degree, w.prune,
                              w.row.data()));
  }

  // Rows of at most R, nearest first.
  Rows shrink() {
    Rows result(rows_.count(), params_.degree);
    for_each(rows_.count(), [&](size_t i, Worker& w) {
      const uint32_t point = static_cast<uint32_t>(i);
      const std::span<const uint32_t> row = rows_.row(point);
      w.row.assign(row.begin(), row.end());
      if (row.size() > params_.degree) {
        prune_row(point, w);
      } else {
        sort_row(point, w);
      }
      result.assign(point, w.row);
    });
    return result;
  }

  void sort_row(uint32_t point, Worker& w) {
    w.to_row.resize(w.row.size());
    w.pivot.set(distances_, point);
    w.pivot.distances_to(distances_, w.row, w.to_row.data());
    w.candidates.clear();
    for (size_t i = 0; i < w.row.size(); ++i) w.candidates.push_back({w.to_row[i], w.row[i]});
    std::sort(w.candidates.begin(), w.candidates.end(),
              [](const search::ScoredId& a, const search::ScoredId& b) {
                return a.score != b.score ? a.score < b.score : a.id < b.id;
              });
    for (size_t i = 0; i < w.row.size(); ++i) w.row[i] = w.candidates[i].id;
  }

  template <class Body>
  void for_each(size_t count, const Body& body) {
    const size_t grain = std::clamp<size_t>(kGrainBytes / distances_.codes.stride, 1, kMaxGrain);
    parallel_for(count, grain, threads_, monitor_, [&](size_t begin, size_t end, uint32_t index) {
      Worker& w = worker(index);
      for (size_t i = begin; i < end; ++i) body(i, w);
    });
  }

  static constexpr uint64_t kOrderStream = 1;  // apart from the rotation's, which is 0

  const CodeDistances& distances_;
  const VamanaParams& params_;
  uint32_t entry_;
  Monitor& monitor_;
  uint32_t threads_;
  Rows rows_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<uint32_t> chosen_, chosen_counts_, groups_;
  std::vector<Edge> edges_, edge_scratch_;
};

}  // namespace

Buffer build_vamana(const CodeDistances& distances, size_t count, uint32_t entry,
                    const VamanaParams& params, Monitor& monitor) {
  return Builder(distances, count, entry, params, monitor).run();
}

}  // namespace bigrain::graph
