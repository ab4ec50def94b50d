// SPDX-License-Identifier: Apache-2.0
#include "graph/linker.h"

#include <algorithm>
#include <cmath>

#include "util/thread_pool.h"

namespace bigrain::graph {

namespace {

// DiskANN's GRAPH_SLACK_FACTOR: rows may outgrow R by this before a prune is paid for.
constexpr float kSlack = 1.3f;
// Points handed out at a time: long enough to keep the counter cold, and short enough for polls: a
// point takes some 10,000 distances, 16 of them about 20 ms at 1 KB a record.
constexpr size_t kMaxGrain = 16, kGrainBytes = 16 * 1024;

// Reverse edges handled at a time, when a batch is everything: 64 MiB of them with what sorting
// needs, and some 40 ms between polls. Which are handled together does not change the rows.
constexpr size_t kEdgesAtATime = size_t{1} << 22;
constexpr size_t kPollEvery = size_t{1} << 16;

size_t slack_stride(uint32_t degree) {
  return static_cast<size_t>(std::ceil(kSlack * static_cast<float>(degree)));
}

}  // namespace

Linker::Linker(const CodeDistances& distances, size_t count, const LinkParams& params,
               Monitor& monitor)
    : distances_(distances),
      params_(params),
      monitor_(monitor),
      rows_(count, slack_stride(params.degree)),
      workers_(params.threads) {}

void Linker::choose(std::span<const uint32_t> batch, const FindCandidates& find) {
  const size_t degree = params_.degree;
  batch_.assign(batch.begin(), batch.end());
  chosen_.resize(batch.size() * degree);
  chosen_counts_.resize(batch.size());
  for_each(batch.size(), [&](size_t i, LinkWorker& w) {
    find(batch_[i], w);
    chosen_counts_[i] = static_cast<uint32_t>(robust_prune(distances_, w.candidates, params_.alpha,
                                                           degree, w.prune, &chosen_[i * degree]));
  });
}

void Linker::connect() {
  for (size_t i = 0; i < batch_.size(); ++i) {
    rows_.assign(batch_[i], {&chosen_[i * params_.degree], chosen_counts_[i]});
  }
  const size_t edges = batch_.size() * params_.degree;
  const size_t ranges = (edges + kEdgesAtATime - 1) / kEdgesAtATime;
  for (size_t i = 0; i < ranges; ++i) {
    collect_edges(static_cast<uint32_t>(i * rows_.count() / ranges),
                  static_cast<uint32_t>((i + 1) * rows_.count() / ranges));
    group_by_target(edges_, edge_scratch_, groups_);
    for_each(groups_.size() - 1, [&](size_t g, LinkWorker& w) {
      add_reverse_edges(std::span(edges_).subspan(groups_[g], groups_[g + 1] - groups_[g]), w);
    });
  }
}

void Linker::collect_edges(uint32_t first, uint32_t last) {
  edges_.clear();
  for (size_t i = 0; i < batch_.size(); ++i) {
    if (i % kPollEvery == 0) monitor_.check();
    const uint32_t* const chosen = &chosen_[i * params_.degree];
    for (size_t j = 0; j < chosen_counts_[i]; ++j) {
      if (chosen[j] - first < last - first) edges_.push_back({chosen[j], batch_[i]});
    }
  }
}

Rows Linker::finish() {
  Rows result(rows_.count(), params_.degree);
  for_each(rows_.count(), [&](size_t i, LinkWorker& w) {
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

LinkWorker& Linker::worker(uint32_t index) {
  if (!workers_[index]) workers_[index] = std::make_unique<LinkWorker>(distances_.codes.stride);
  return *workers_[index];
}

void Linker::add_reverse_edges(std::span<const Edge> edges, LinkWorker& w) {
  const uint32_t target = edges.front().target;
  const std::span<const uint32_t> row = rows_.row(target);
  w.row.assign(row.begin(), row.end());
  for (const Edge& edge : edges) {
    // Two points that chose each other have the edge already.
    if (std::find(row.begin(), row.end(), edge.source) == row.end()) w.row.push_back(edge.source);
  }
  if (w.row.size() > rows_.stride()) prune_row(target, w);
  rows_.assign(target, w.row);
}

// w.row: the neighbours to choose from; then the chosen ones.
void Linker::prune_row(uint32_t point, LinkWorker& w) {
  score_row(point, w);
  w.row.resize(std::max<size_t>(w.row.size(), params_.degree));
  w.row.resize(
      robust_prune(distances_, w.candidates, params_.alpha, params_.degree, w.prune, w.row.data()));
}

void Linker::sort_row(uint32_t point, LinkWorker& w) {
  score_row(point, w);
  std::sort(w.candidates.begin(), w.candidates.end(),
            [](const search::ScoredId& a, const search::ScoredId& b) {
              return a.score != b.score ? a.score < b.score : a.id < b.id;
            });
  for (size_t i = 0; i < w.row.size(); ++i) w.row[i] = w.candidates[i].id;
}

void Linker::score_row(uint32_t point, LinkWorker& w) {
  w.to_row.resize(w.row.size());
  w.pivot.set(distances_, point);
  w.pivot.distances_to(distances_, w.row, w.to_row.data());
  w.candidates.clear();
  for (size_t i = 0; i < w.row.size(); ++i) w.candidates.push_back({w.to_row[i], w.row[i]});
}

void Linker::for_each(size_t count, const std::function<void(size_t i, LinkWorker& w)>& body) {
  const size_t grain = std::clamp<size_t>(kGrainBytes / distances_.codes.stride, 1, kMaxGrain);
  parallel_for(count, grain, params_.threads, monitor_,
               [&](size_t begin, size_t end, uint32_t index) {
                 LinkWorker& w = worker(index);
                 for (size_t i = begin; i < end; ++i) body(i, w);
               });
}

}  // namespace bigrain::graph
