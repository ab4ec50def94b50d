// SPDX-License-Identifier: Apache-2.0
#include "index/disk_build/chooser.h"

#include <algorithm>

#include "graph/partitioned.h"
#include "util/thread_pool.h"

namespace bigrain::disk_build {

namespace {

constexpr size_t kGrain = 16;  // points handed out at a time, as in graph/linker.cpp

bool nearer(const search::ScoredId& a, const search::ScoredId& b) {
  return a.score != b.score ? a.score < b.score : a.id < b.id;
}

}  // namespace

void Lists::end_list() {
  const auto begin = places.begin() + static_cast<ptrdiff_t>(starts.back());
  std::sort(begin, places.end());
  places.erase(std::unique(begin, places.end()), places.end());
  starts.push_back(places.size());
}

Chooser::Chooser(const Homes& homes, const io::BucketReader& codes, const CandidateParams& params,
                 size_t most_codes, const simd::Kernels& kernels)
    : params_(params),
      most_codes_(most_codes),
      score_codes_(kernels.score_codes),
      gathered_(homes, codes),
      threads_(resolve_threads(params.build.threads)),
      workers_(threads_) {}

void Chooser::prune(uint32_t first, const Lists& near, const Lists& far,
                    std::vector<uint32_t>& rows, Monitor& monitor) {
  const Lists* const both[] = {&near, &far};
  const size_t most = graph::near_capacity(params_.degree);
  run(first, both, rows, monitor, [&](size_t i, graph::LinkWorker& w, uint32_t* row) {
    const uint32_t place = first + static_cast<uint32_t>(i);
    w.candidates.clear();
    score(place, near.list(i), w);
    if (w.candidates.size() > most) {
      std::nth_element(w.candidates.begin(), w.candidates.begin() + static_cast<ptrdiff_t>(most),
                       w.candidates.end(), nearer);
      w.candidates.resize(most);
    }
    score(place, far.list(i), w);
    choose(w, row);
  });
}

void Chooser::finish(uint32_t first, const Lists& lists, std::vector<uint32_t>& rows,
                     Monitor& monitor) {
  const Lists* const one[] = {&lists};
  run(first, one, rows, monitor, [&](size_t i, graph::LinkWorker& w, uint32_t* row) {
    w.candidates.clear();
    score(first + static_cast<uint32_t>(i), lists.list(i), w);
    if (w.candidates.size() > params_.degree) return choose(w, row);
    std::sort(w.candidates.begin(), w.candidates.end(), nearer);
    for (size_t j = 0; j < w.candidates.size(); ++j) row[j] = gathered_.place(w.candidates[j].id);
  });
}

void Chooser::run(uint32_t first, std::span<const Lists* const> lists, std::vector<uint32_t>& rows,
                  Monitor& monitor, const Body& body) {
  const size_t count = lists.front()->count();
  rows.assign(count * params_.degree, kNoPlace);
  for (size_t from = 0; from < count;) {
    const size_t to = mark(first, lists, from);
    gathered_.load(monitor);
    parallel_for(to - from, kGrain, threads_, monitor,
                 [&](size_t begin, size_t end, uint32_t index) {
                   auto& worker = workers_[index];
                   if (!worker) {
                     worker = std::make_unique<graph::LinkWorker>(gathered_.codes().stride);
                   }
                   for (size_t i = from + begin; i < from + end; ++i) {
                     body(i, *worker, &rows[i * params_.degree]);
                   }
                 });
    gathered_.clear();
    from = to;
  }
}

// Marks what points from `begin` on need; returns the point before which the limit was reached.
size_t Chooser::mark(uint32_t first, std::span<const Lists* const> lists, size_t begin) {
  size_t marked = 0, i = begin;
  for (; i < lists.front()->count() && (i == begin || marked < most_codes_); ++i) {
    marked += gathered_.mark(first + static_cast<uint32_t>(i)) ? 1 : 0;
    for (const Lists* some : lists) {
      for (const uint32_t place : some->list(i)) marked += gathered_.mark(place) ? 1 : 0;
    }
  }
  return i;
}

// Appends the others with their distances, by number.
void Chooser::score(uint32_t place, std::span<const uint32_t> others, graph::LinkWorker& w) const {
  if (others.empty()) return;
  const graph::CodeDistances distances{gathered_.codes(), score_codes_,
                                       params_.build.metric == Metric::ip};
  w.row.resize(others.size());
  w.to_row.resize(others.size());
  for (size_t i = 0; i < others.size(); ++i) w.row[i] = gathered_.number(others[i]);
  w.pivot.set(distances, gathered_.number(place));
  w.pivot.distances_to(distances, w.row, w.to_row.data());
  for (size_t i = 0; i < others.size(); ++i) w.candidates.push_back({w.to_row[i], w.row[i]});
}

void Chooser::choose(graph::LinkWorker& w, uint32_t* row) const {
  const graph::CodeDistances distances{gathered_.codes(), score_codes_,
                                       params_.build.metric == Metric::ip};
  const size_t count =
      graph::robust_prune(distances, w.candidates, params_.alpha, params_.degree, w.prune, row);
  for (size_t j = 0; j < count; ++j) row[j] = gathered_.place(row[j]);
}

}  // namespace bigrain::disk_build
