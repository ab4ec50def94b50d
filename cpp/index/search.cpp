// SPDX-License-Identifier: Apache-2.0
// Index::search: check, then queries in parallel.
#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "bigrain/index.h"
#include "format/parts.h"
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

}  // namespace

void Index::search(const MatrixView& queries, const SearchParams& params,
                   const SearchOutput& output, Monitor& monitor) const {
  check(parts_->meta, queries, params);
  if (parts_->meta.count == 0) return fill_empty(queries.rows * params.k, output, queries.rows);
  const search::QuerySearch search(*parts_, params, simd::active_kernels());
  const size_t grain = grain_for(std::max({params.width, params.rerank, params.k}));
  const size_t tasks = (queries.rows + grain - 1) / grain;
  const uint32_t threads = static_cast<uint32_t>(
      std::min<size_t>(resolve_threads(params.threads), std::max<size_t>(tasks, 1)));
  std::vector<std::unique_ptr<search::Interleaver>> interleavers(threads);
  monitor.start(queries.rows);
  parallel_for(queries.rows, grain, threads, monitor,
               [&](size_t begin, size_t end, uint32_t worker) {
                 auto& interleaver = interleavers[worker];
                 if (!interleaver) interleaver = std::make_unique<search::Interleaver>(search);
                 interleaver->run(queries, begin, end, output);
                 monitor.advance(end - begin);
               });
}

}  // namespace bigrain
