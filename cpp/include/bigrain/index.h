// SPDX-License-Identifier: Apache-2.0
// The index: a Vamana graph over 8-bit codes that decide where to look, and full vectors that
// decide the answer.
//
// Threads: every const member may be called from any number of threads at once. Building, opening,
// set_layout() and set_tuning() produce or change an index and need it to themselves.
// Failure: every function throws bigrain::Error or std::bad_alloc and leaves the index as it was.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bigrain/error.h"
#include "bigrain/params.h"
#include "bigrain/types.h"

namespace bigrain {

struct TunePoint;
struct Residency;
class DiskPoints;
class Monitor;
struct IndexParts;

// What one query cost.
struct QueryStats {
  uint32_t hops = 0;            // vertices expanded
  uint32_t code_distances = 0;  // 8-bit distances; each reads one code record
  uint32_t full_distances = 0;  // distances computed on full vectors
  uint32_t reads = 0;           // of the file: requests
  uint32_t bytes = 0;           // brought by them
  uint32_t rounds = 0;          // times that the query had to wait for a read
  uint32_t cache_hits = 0;      // rows or vectors that were in memory instead
};
inline constexpr size_t kQueryStatsFields = 7;
static_assert(sizeof(QueryStats) == kQueryStatsFields * sizeof(uint32_t));

// Where results go: (rows, k) each, C-contiguous, owned by the caller. Rows with fewer than k
// results are padded with id -1 and distance +infinity.
struct SearchOutput {
  int64_t* ids = nullptr;
  float* distances = nullptr;
  QueryStats* stats = nullptr;  // rows entries, or null
};

// Product-quantized codes from elsewhere. They are of the vectors as they are (under cosine:
// normalised), without the mean subtracted: x rotation is cut into m sub-vectors, the first
// columns mod m of them of one coordinate more, and byte j of a code names a centroid of sub-vector
// j. Under ip and cosine, scores are inner products with what a code stands for; under l2
// distances.
struct GivenCodes {
  MatrixView rotation;   // dim x columns, f32, orthonormal columns
  MatrixView codebooks;  // f32: 256 centroids per sub-vector, one sub-vector after the other
  uint32_t bytes = 0;    // m, 1 to columns
  // n x m by points' numbers, which need not be nearest centroids; null: the vectors are encoded.
  const uint8_t* codes = nullptr;
};

struct ValidationReport {
  uint64_t points = 0, edges = 0, unreachable = 0, empty_rows = 0;
  uint32_t max_degree = 0;
  std::vector<std::string> problems;  // empty: the index is sound
};

class Index {
 public:
  // Builds over `vectors` (n may be 0). `ids`: n distinct, non-negative external ids, or null for
  // 0..n-1. The vectors are copied. Same input, parameters and seed give the same bytes for every
  // number of threads and every instruction set.
  static Index build(const MatrixView& vectors, const int64_t* ids, const BuildParams& params,
                     Monitor& monitor);

  // With a budget of memory, vectors (and rows, if need be) stay in the file, which is read while
  // searches run; residency() tells. Such an index is searched, tuned and described; what needs all
  // points throws Error(not_supported).
  static Index open(const std::string& path, const OpenParams& params, Monitor& monitor);
  static Index from_bytes(std::span<const std::byte> bytes, Verify verify, Monitor& monitor);

  // Atomic: `path` holds the complete old or the complete new file, whatever happens. Returns the
  // number of bytes written. Saving over the file that this index was opened from is fine.
  uint64_t save(const std::string& path, Monitor& monitor) const;
  std::vector<std::byte> to_bytes() const;

  // How searches walk; in memory only, never in a file. `fast` packs what is needed beside the
  // codes, deterministically (about code_dim / 8 + 8 bytes per edge); `compact`, what build and
  // open give, drops it. Throws Error(corrupt) on an id outside the graph.
  void set_layout(Layout layout, uint32_t threads, Monitor& monitor);
  Layout layout() const;

  // Takes codes that were trained elsewhere in place of its own: those by which a search with rows
  // on disk chooses what it reads. An index without such codes becomes one made for SSDs, as by
  // BuildParams::pq_bytes: its points are renumbered, hot rows chosen. What searches in memory
  // answer stays. An index of no points has none to take.
  void set_codes(const GivenCodes& given, uint32_t threads, Monitor& monitor);

  // `queries` has the index's dtype; an index of f16 vectors is asked with f32.
  void search(const MatrixView& queries, const SearchParams& params, const SearchOutput& output,
              Monitor& monitor) const;

  // Checks what the format promises, and that every point can be reached from the entry.
  ValidationReport validate(Monitor& monitor) const;

  // The calibrated curve from recall to width and rerank; empty until set.
  std::span<const TunePoint> tuning() const;
  void set_tuning(std::vector<TunePoint> points);

  // Replaces the rows of some points of the graph, of `degree` ids each, so that tuning can leave
  // points out for a while. The ids within are compared with n at each use only.
  void set_rows(std::span<const uint32_t> points, const uint32_t* rows);

  const IndexParts& parts() const { return *parts_; }
  // What is in memory, and how the rest is read; nothing but the former where all is in memory.
  const Residency& residency() const;
  std::string io() const;
  size_t page_sum_bytes() const;
  size_t hot_row_bytes() const;    // in memory while other rows are not
  size_t pq_column_bytes() const;  // codebooks, as walks on disk read them

  Index(Index&&) noexcept;
  Index& operator=(Index&&) noexcept;
  ~Index();

 private:
  explicit Index(std::unique_ptr<IndexParts> parts);
  Index(std::unique_ptr<IndexParts> parts, std::unique_ptr<DiskPoints> disk);
  void require_memory(const char* what) const;

  std::unique_ptr<IndexParts> parts_;
  std::unique_ptr<DiskPoints> disk_;  // null: everything is in memory
};

}  // namespace bigrain
