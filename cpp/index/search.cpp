// SPDX-License-Identifier: Apache-2.0
// Index::search: check, then queries in parallel.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "bigrain/index.h"
#include "format/parts.h"
#include "index/disk_points.h"
#include "search/disk_interleave.h"
#include "search/disk_search.h"
#include "search/interleave.h"
#include "search/query_search.h"
#include "simd/kernels.h"
#include "util/monitor.h"
#include "util/thread_pool.h"

namespace bigrain {

namespace {

void check_range(const char* name, uint64_t value, uint64_t low, uint64_t high) {
  if (value >= low && value <= high) return;
  throw Error::invalid(std::string(name) + ": got " + std::to_string(value) + "; expected " +
                       std::to_string(low) + " to " + std::to_string(high));
}

void check(const IndexMeta& meta, const MatrixView& queries, const SearchParams& params) {
  if (queries.dim != meta.dim) {
    throw Error::invalid("queries: got dimension " + std::to_string(queries.dim) + "; expected " +
                         std::to_string(meta.dim) + ", that of the index");
  }
  const Dtype expected = meta.dtype == Dtype::f16 ? Dtype::f32 : meta.dtype;
  if (queries.dtype != expected) {
    throw Error::invalid(std::string("queries: got ") + name_of(queries.dtype) + "; expected " +
                         name_of(expected) + " for an index of " + name_of(meta.dtype));
  }
  check_range("k", params.k, kMinK, kMaxK);
  check_range("width", params.width, 0, kMaxWidth);
  check_range("rerank", params.rerank, 0, kMaxWidth);
  check_range("threads", params.threads, 0, kMaxThreads);
  if (!(params.slack >= 0)) {
    throw Error::invalid("slack: got " + std::to_string(params.slack) + "; expected at least 0");
  }
  if (meta.metric == Metric::ip && std::isfinite(params.slack)) {
    throw Error::invalid("slack: got " + std::to_string(params.slack) +
                         " for an index of metric ip, whose products have no ratio of distances; "
                         "expected none, choose width alone");
  }
}

// No points: every result is padding.
void fill_empty(size_t slots, const SearchOutput& output, size_t queries) {
  std::fill_n(output.ids, slots, int64_t{-1});
  std::fill_n(output.distances, slots, std::numeric_limits<float>::infinity());
  if (output.stats != nullptr) std::fill_n(output.stats, queries, QueryStats{});
}

// Queries per task: about 5 ms at 20 us for each 64 of width, far below the interval of polls.
size_t grain_for(uint32_t width) {
  return std::clamp<size_t>(16'384 / std::max(width, 64u), 1, 64);
}

// What is read is what is ranked: a window of k at least, and of the candidates that were asked
// for, by which the tuned curve of an index in memory holds here, too.
search::DiskSearchParams disk_params(const SearchParams& params) {
  const uint32_t width = params.width != 0 ? params.width : kDefaultWidth;
  return {.k = params.k,
          .window = std::max({width, params.rerank, params.k}),
          .slack = params.slack,
          .threads = params.threads,
          .deterministic = params.deterministic};
}

// run(worker's own, begin, end) over all queries; make(queries at a time) gives a worker its own.
template <class Make, class Run>
void run_queries(size_t queries, size_t width, uint32_t wanted_threads, Monitor& monitor, Make make,
                 Run run) {
  const size_t grain = grain_for(static_cast<uint32_t>(width));
  const size_t tasks = std::max<size_t>((queries + grain - 1) / grain, 1);
  const auto threads =
      static_cast<uint32_t>(std::min<size_t>(resolve_threads(wanted_threads), tasks));
  std::vector<decltype(make(grain))> workers(threads);
  monitor.start(queries);
  parallel_for(queries, grain, threads, monitor, [&](size_t begin, size_t end, uint32_t worker) {
    if (!workers[worker]) workers[worker] = make(grain);
    run(*workers[worker], begin, end);
    monitor.advance(end - begin);
  });
}

}  // namespace

void Index::search(const MatrixView& queries, const SearchParams& params,
                   const SearchOutput& output, Monitor& monitor) const {
  check(parts_->meta, queries, params);
  if (parts_->meta.count == 0) return fill_empty(queries.rows * params.k, output, queries.rows);
  if (disk_ != nullptr && disk_->terrain() != nullptr) {
    return search::search_on_disk(*disk_->terrain(), disk_->readers(), queries, disk_params(params),
                                  output, monitor);
  }
  const search::QuerySearch search(*parts_, params, simd::active_kernels());
  const size_t width = std::max({params.width, params.rerank, params.k});
  if (disk_ == nullptr) {
    run_queries(
        queries.rows, width, params.threads, monitor,
        [&](size_t) { return std::make_unique<search::Interleaver>(search); },
        [&](search::Interleaver& interleaver, size_t begin, size_t end) {
          interleaver.run(queries, begin, end, output);
        });
  } else {
    run_queries(
        queries.rows, width, params.threads, monitor,
        [&](size_t grain) {
          return std::make_unique<search::DiskInterleaver>(search, disk_->points(), disk_->hot(),
                                                           disk_->readers(),
                                                           std::min(grain, queries.rows));
        },
        [&](search::DiskInterleaver& interleaver, size_t begin, size_t end) {
          interleaver.run(queries, begin, end, output);
        });
  }
}

}  // namespace bigrain
