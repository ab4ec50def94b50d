// SPDX-License-Identifier: Apache-2.0
// A search whose graph and vectors lie on an SSD and whose PQ codes lie in memory (DiskANN, NeurIPS
// 2019, section 3): read the record of the nearest candidate not yet read; its vector gives an
// exact distance, its row new candidates, which their codes score; the answer is the nearest of
// what was read.
//
// What differs:
//   - Several reads are under way at a time, and each is processed when it comes, not when the last
//     of a beam has come (PipeANN, OSDI 2025). How many grows while they are not in vain.
//   - Walks begin at the nearest of sqrt(n) points, whose codes are in memory anyway: five reads
//     fewer than from the medoid (bench/LOG.md, "reads of a walk on an SSD").
//   - Rows in memory are expanded before anything is read (LAANN, arXiv 2606.02784), and vectors of
//     such points are read in the end, nearest first, until none can be among the answers.
//   - All records of a page that was read are scored exactly, and those that are candidates are
//     expanded like the one asked for (Starling, SIGMOD 2024).
//   - A walk may end by distance: once the next candidate is farther, by a given factor, than the
//     k-th nearest vector read (Al-Jazzazi et al., NeurIPS 2025; search/greedy.h has it on codes).
//   - Where rows and vectors lie apart, all vectors are read in the end.
//
// A walk is processed in the order in which it asked, if `deterministic`: then the same query gives
// the same answer and the same reads on every device.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "bigrain/index.h"
#include "quant/pq_query.h"
#include "search/disk_terrain.h"
#include "search/page_reader.h"
#include "search/pool.h"
#include "search/visited.h"
#include "simd/kernels.h"

namespace bigrain::search {

struct DiskWalkParams {
  uint32_t k = 10, window = 64;
  float slack = std::numeric_limits<float>::infinity();  // SearchParams::slack
  uint32_t first_reads = 4, most_reads = 32;             // under way at a time
  bool deterministic = false;
};

// One query, step by step; memory is reused from one to the next. Everything is borrowed.
class DiskWalk {
 public:
  explicit DiskWalk(const DiskTerrain& terrain, const DiskWalkParams& params);

  // `self`: the owner of what the walk asks for. Asks for the first records.
  void start(const void* query, uint32_t self, PageReader& reader);
  // A slot of this walk's has come. Asks for more as a consequence.
  void arrive(uint32_t slot, PageReader& reader);
  bool is_finished() const { return flights_.empty(); }
  // k ids and distances, nearest first, padded with -1 and +infinity.
  QueryStats finish(int64_t* ids, float* distances);

 private:
  struct Owed {  // a point that is, or was, a candidate, while its vector has not been read
    float score;
    uint32_t id;
    int64_t external = 0;
  };
  struct Flight {  // pages on their way
    RecordKind kind;
    bool has_come;
    uint32_t slot, depth;
    uint64_t page;
    std::vector<Owed> wanted;
  };
  struct Found {  // a point with its exact distance
    float distance;
    uint32_t id;
    int64_t external;
  };

  void enter();
  void ask(PageReader& reader);
  bool ask_next(PageReader& reader);
  void ask_for(RecordKind kind, const Owed& point, PageReader& reader);
  void expand_resident();
  void settle_debts();
  bool is_beyond(const Owed& owed) const;

  void process(const Flight& flight, PageReader& reader);
  void process_node(const std::byte* record, Owed point, bool wanted);
  void measure(const std::byte* vector, const Owed& point, bool near);
  void end_early();
  void expand(uint32_t id, const uint32_t* row);
  void adapt_width(const Flight& flight);

  const DiskTerrain& terrain_;
  const DiskWalkParams params_;
  const simd::DistanceFn distance_;
  const float unit_;  // exact distances times this are on the scale of scores

  const void* query_ = nullptr;
  uint32_t self_ = 0;
  quant::PqQuery codes_;
  Pool pool_;
  Visited visited_;
  std::vector<uint32_t> batch_;
  std::vector<float> scores_, page_scores_, nearest_;  // nearest_: a heap of the k least distances
  std::vector<Flight> flights_;                        // in the order in which they were asked for
  std::vector<std::vector<Owed>> spare_;               // of Flight::wanted
  std::vector<Found> found_;
  std::vector<Owed> owed_;
  size_t next_owed_ = 0;
  std::vector<uint64_t> settled_;  // pages asked for on account of `owed_`
  bool is_walking_ = false;        // false: vectors of `owed_` are read
  uint32_t width_ = 1, useful_ = 0, wasted_ = 0, depth_ = 0;
  double error_sum_ = 0, error_squares_ = 0;  // of exact distances less scores
  uint32_t errors_ = 0;
  QueryStats cost_;
};

}  // namespace bigrain::search
