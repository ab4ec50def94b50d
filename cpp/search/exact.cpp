// SPDX-License-Identifier: Apache-2.0
// Brute force in two steps: a scan finds, for each query, the rows that may be among its k nearest,
// and those are ranked by the distance kernel.
//
// The scan is a product of matrices (exact_gram.h), whose scores differ from the kernel's distances
// by rounding; a bound on that difference decides which rows stay (exact_candidates.h), so that the
// answer is the one of sorting by the kernel, whatever the data. Where the bound is too wide to
// tell rows apart (many near-duplicates, magnitudes near the ends of float's range) a query is
// scanned again with the kernel itself; so are all queries where there are too few to pay for
// packing, or where a large part of all rows is wanted.
//
// Work is cut into chunks of the base. A thread that takes a chunk keeps it in its cache and runs
// all queries of a batch over it, with candidate sets of its own: threads share nothing until the
// sets are merged. The base is read and packed once per batch, not once per query.
//
// Memory: about 16 MiB of packed queries in all, and per thread about 8 MiB of candidates and one
// chunk (exact_gram.cpp), more only where one query alone needs more.
#include "bigrain/exact.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <string>
#include <vector>

#include "bigrain/error.h"
#include "bigrain/params.h"
#include "search/exact_candidates.h"
#include "search/exact_gram.h"
#include "search/exact_job.h"
#include "util/elements.h"
#include "util/thread_pool.h"

namespace bigrain {

namespace exact {

namespace {

// Below, packing a chunk costs more than the tiles save; measured, bench/LOG.md, "exact".
constexpr size_t kMinGramQueries = 12;
// A batch: more queries pay no better for the packing.
constexpr size_t kMaxBatch = 1024;
constexpr size_t kQueryBytes = size_t{16} << 20, kCandidateBytes = size_t{8} << 20;
// A block of a direct scan: fits a level-2 cache, and keeps the pace of exact_gram.cpp.
constexpr size_t kBlockBytes = size_t{256} << 10, kBlockDistances = size_t{1} << 21;

struct Output {
  int64_t* ids;
  float* distances;
  size_t stride;  // the k that was asked for
};

// The candidate sets of one batch: one row per thread that takes part.
class WorkerSets {
 public:
  WorkerSets(const Job& job, size_t queries) : k_(job.k), queries_(queries), sets_(job.threads) {}

  std::vector<CandidateSet>& of(uint32_t worker) {
    if (sets_[worker].empty()) sets_[worker].assign(queries_, CandidateSet(k_));
    return sets_[worker];
  }

  // All threads' candidates for a query; false where one of them has given up.
  bool merge(size_t query, std::vector<Candidate>& merged) const {
    merged.clear();
    for (const std::vector<CandidateSet>& row : sets_) {
      if (row.empty()) continue;
      if (row[query].overflowed()) return false;
      const std::vector<Candidate>& part = row[query].candidates();
      merged.insert(merged.end(), part.begin(), part.end());
    }
    keep_possible(merged, k_);
    return true;
  }

 private:
  size_t k_, queries_;
  std::vector<std::vector<CandidateSet>> sets_;
};

// Candidates of bound 0 become the answer to one query.
void write_answer(std::vector<Candidate>& candidates, size_t k, size_t query,
                  const Output& output) {
  const auto end = candidates.begin() + static_cast<std::ptrdiff_t>(k);
  std::partial_sort(candidates.begin(), end, candidates.end(),
                    [](const Candidate& a, const Candidate& b) {
                      return a.score != b.score ? a.score < b.score : a.row < b.row;
                    });
  for (size_t i = 0; i < k; ++i) {
    output.ids[query * output.stride + i] = candidates[i].row;
    output.distances[query * output.stride + i] = candidates[i].score;
  }
}

// Queries per batch, so that a thread's sets stay within kCandidateBytes, in batches of equal size.
size_t batch_size(const Job& job, size_t queries, size_t limit) {
  const size_t set_bytes = CandidateSet::initial_capacity(job.k) * sizeof(Candidate);
  const size_t largest = std::clamp<size_t>(kCandidateBytes / set_bytes, 1, limit);
  const size_t batches = (queries + largest - 1) / largest;
  return (queries + batches - 1) / batches;
}

void direct_batch(const Job& job, std::span<const size_t> queries, bool count_work,
                  const Output& output) {
  WorkerSets sets(job, queries.size());
  const size_t row_bytes = job.base.dim * item_size(job.base.dtype);
  const size_t grain = std::clamp<size_t>(kBlockDistances / queries.size(), 1,
                                          std::max<size_t>(kBlockBytes / row_bytes, 1));
  parallel_for(job.base.rows, grain, job.threads, job.monitor,
               [&](size_t begin, size_t end, uint32_t worker) {
                 std::vector<CandidateSet>& own = sets.of(worker);
                 for (size_t i = 0; i < queries.size(); ++i) {
                   for (size_t row = begin; row < end; ++row) {
                     const float distance = job.distance(queries[i], row);
                     if (distance <= own[i].limit()) own[i].add(distance, 0, row);
                   }
                 }
                 if (count_work) job.monitor.advance((end - begin) * queries.size());
               });
  parallel_for(queries.size(), 1, job.threads, job.monitor, [&](size_t begin, size_t, uint32_t) {
    std::vector<Candidate> merged;
    sets.merge(begin, merged);
    write_answer(merged, job.k, queries[begin], output);
  });
}

void search_direct(const Job& job, std::span<const size_t> queries, bool count_work,
                   const Output& output) {
  if (queries.empty()) return;
  const size_t batch = batch_size(job, queries.size(), kMaxBatch);
  for (size_t begin = 0; begin < queries.size(); begin += batch) {
    const size_t count = std::min(batch, queries.size() - begin);
    direct_batch(job, queries.subspan(begin, count), count_work, output);
  }
}

// Answers the queries [begin, end) except those for which candidates could not be told apart: they
// are marked in `unanswered`.
void gram_batch(const Job& job, const std::vector<float>& centre, size_t begin, size_t end,
                const Output& output, std::vector<uint8_t>& unanswered) {
  const GramScan scan(job, centre, begin, end);
  WorkerSets sets(job, end - begin);
  std::vector<Buffer> panels(job.threads);
  parallel_for(job.base.rows, scan.chunk_rows(), job.threads, job.monitor,
               [&](size_t from, size_t to, uint32_t worker) {
                 scan.scan(from, to, panels[worker], sets.of(worker));
                 job.monitor.advance((to - from) * (end - begin));
               });
  parallel_for(end - begin, 1, job.threads, job.monitor, [&](size_t i, size_t, uint32_t) {
    std::vector<Candidate> merged;
    if (!sets.merge(i, merged)) {
      unanswered[begin + i] = 1;
      return;
    }
    for (Candidate& c : merged) c = {job.distance(begin + i, c.row), 0, c.row};
    write_answer(merged, job.k, begin + i, output);
  });
}

void search_gram(const Job& job, const Output& output) {
  const std::vector<float> centre = find_centre(job);
  const size_t for_memory = kQueryBytes / (depth_of(job) * sizeof(float));
  const size_t limit = std::clamp(for_memory, job.kernels.gemm_tile_rows, kMaxBatch);
  const size_t batch = batch_size(job, job.queries.rows, limit);
  std::vector<uint8_t> unanswered(job.queries.rows);
  for (size_t begin = 0; begin < job.queries.rows; begin += batch) {
    const size_t end = std::min(begin + batch, job.queries.rows);
    gram_batch(job, centre, begin, end, output, unanswered);
  }
  std::vector<size_t> again;
  for (size_t i = 0; i < unanswered.size(); ++i) {
    if (unanswered[i]) again.push_back(i);
  }
  search_direct(job, again, false, output);
}

// The cosine of a zero vector is not defined.
void check_no_zero_row(const MatrixView& matrix, const char* name, const Job& job) {
  constexpr size_t kRowsPerBlock = 1 << 14;
  std::atomic<size_t> first{matrix.rows};
  parallel_for(
      matrix.rows, kRowsPerBlock, job.threads, job.monitor,
      [&](size_t begin, size_t end, uint32_t) {
        with_elements(matrix, [&](const auto* elements) {
          for (size_t i = begin; i < end; ++i) {
            const auto* row = elements + i * matrix.dim;
            if (std::any_of(row, row + matrix.dim, [](auto x) { return to_float(x) != 0; }))
              continue;
            size_t known = first.load();
            while (i < known && !first.compare_exchange_weak(known, i)) {
            }
            return;
          }
        });
      });
  if (first == matrix.rows) return;
  throw Error::invalid(std::string(name) + " row " + std::to_string(first.load()) +
                       " is all zeros, so its cosine distance is not defined; remove the row or "
                       "choose the metric ip or l2");
}

void check_arguments(const MatrixView& base, const MatrixView& queries, uint32_t k) {
  if (base.dim != queries.dim) {
    throw Error::invalid("queries have dim " + std::to_string(queries.dim) + ", base has dim " +
                         std::to_string(base.dim) + "; they must be equal");
  }
  const Dtype expected = base.dtype == Dtype::f16 ? Dtype::f32 : base.dtype;
  if (queries.dtype != expected) {
    throw Error::invalid(std::string("queries are ") + name_of(queries.dtype) + ", but a base of " +
                         name_of(base.dtype) + " is asked with " + name_of(expected));
  }
  if (k < kMinK || k > kMaxK) {
    throw Error::invalid("k is " + std::to_string(k) + ", expected " + std::to_string(kMinK) +
                         " to " + std::to_string(kMaxK));
  }
  if (base.rows > kMaxPoints) {
    throw Error::invalid("base has " + std::to_string(base.rows) + " rows, at most " +
                         std::to_string(kMaxPoints) + " are supported; search it in parts");
  }
}

}  // namespace

}  // namespace exact

void exact_search(const MatrixView& base, const MatrixView& queries, Metric metric, uint32_t k,
                  uint32_t threads, int64_t* ids, float* distances, Monitor& monitor) {
  using namespace exact;
  check_arguments(base, queries, k);
  monitor.start(uint64_t{base.rows} * queries.rows);
  std::fill_n(ids, queries.rows * k, int64_t{-1});
  std::fill_n(distances, queries.rows * k, std::numeric_limits<float>::infinity());
  if (base.rows == 0 || queries.rows == 0) return;
  const Job job{base,
                queries,
                simd::active_kernels(),
                metric,
                std::min<size_t>(k, base.rows),
                resolve_threads(threads),
                monitor};
  if (metric == Metric::cosine) {
    check_no_zero_row(base, "base", job);
    check_no_zero_row(queries, "queries", job);
  }
  const Output output{ids, distances, k};
  // Where sets would hold a good part of all rows anyway, there is nothing to sift.
  const bool sift = CandidateSet::initial_capacity(job.k) < base.rows / 2;
  if (queries.rows >= kMinGramQueries && sift) {
    search_gram(job, output);
  } else {
    std::vector<size_t> all(queries.rows);
    for (size_t i = 0; i < all.size(); ++i) all[i] = i;
    search_direct(job, all, true, output);
  }
}

}  // namespace bigrain
