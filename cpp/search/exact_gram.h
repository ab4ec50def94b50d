// SPDX-License-Identifier: Apache-2.0
// The fast scan: scores as one product of matrices, tile by tile. Private to search/exact*.
#pragma once

#include <vector>

#include "search/exact_candidates.h"
#include "search/exact_pack.h"

namespace bigrain::exact {

// How far a score may lie from the distance that the kernels compute, both rounded.
class ErrorBound {
 public:
  explicit ErrorBound(const Job& job);

  // For one query and all rows of a range of norms; +infinity where nothing can be promised.
  float of(double query_norm, const NormRange& rows) const;

 private:
  Metric metric_;
  double relative_, absolute_;
};

// Scores of the queries of one batch against chunks of the base. Shared by all threads, except for
// what is handed to scan().
class GramScan {
 public:
  // `end` - `begin` queries; the job and the centre outlive this.
  GramScan(const Job& job, const std::vector<float>& centre, size_t begin, size_t end);

  // Base rows per chunk: their panels fit into a level-2 cache.
  size_t chunk_rows() const { return chunk_rows_; }

  // Adds to sets[i] what rows [begin, end) offer to query i of the batch. `panels` is the calling
  // thread's own.
  void scan(size_t begin, size_t end, Buffer& panels, std::vector<CandidateSet>& sets) const;

 private:
  void scan_tile(size_t query, size_t rows, size_t begin, size_t end, const float* panels,
                 const NormRange& norms, CandidateSet* sets) const;

  const Job& job_;
  const std::vector<float>& centre_;
  PackedQueries queries_;
  ErrorBound bound_;
  size_t chunk_rows_;
};

}  // namespace bigrain::exact
