// SPDX-License-Identifier: Apache-2.0
// The exact ranking of one query whose vectors are on SSD.
//
// The nearest candidates by code are read in one batch, and a second batch brings those that the
// first k distances and the bound of scores leave possible (quant/score_bound.h). Vectors are then
// taken in the order of their scores and the ranking stops where it would have in memory, so that
// the answer is the same, whatever arrived when.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "bigrain/index.h"
#include "format/point_file.h"
#include "io/block_reader.h"
#include "search/hot_rows.h"
#include "search/nearest_k.h"
#include "search/pool.h"
#include "search/query_search.h"

namespace bigrain::search {

// A part of a reader's arena, in buffers of one record's pages.
struct ReadBuffers {
  std::byte* memory = nullptr;
  size_t bytes_each = 0, count = 0;

  std::byte* at(size_t i) const { return memory + i * bytes_each; }
};

class VectorReads {
 public:
  // `hot`: vectors in memory, which are not read.
  VectorReads(const format::PointFile& points, const HotRows& hot, ReadBuffers buffers,
              uint32_t slot);

  // The walk of `scratch` has ended. Nothing is in flight.
  void start(const QuerySearch& search, QueryScratch& scratch);
  // Submits what it can; true when the ranking is complete.
  bool advance(const QuerySearch& search, QueryScratch& scratch, io::BlockReader& reader);
  // One of its reads has ended. Throws Error(io) or Error(corrupt).
  void take(const QuerySearch& search, const QueryScratch& scratch, const io::BlockDone& done);
  // Nearest first, as QuerySearch::finish; adds what reading cost.
  QueryStats finish(const QuerySearch& search, QueryScratch& scratch, int64_t* ids,
                    float* distances);

  // Whether a tag is of this slot's reads.
  static uint32_t slot_of(uint64_t tag) { return static_cast<uint32_t>(tag >> 32); }

 private:
  struct Candidate {
    float distance = 0;
    int64_t external = 0;
  };

  uint64_t tag(size_t buffer) const { return uint64_t{slot_} << 32 | buffer; }
  void extend(const QuerySearch& search, const QueryScratch& scratch);
  bool take_hot(const QuerySearch& search, const QueryScratch& scratch);
  void measure(const QuerySearch& search, const QueryScratch& scratch, size_t rank,
               const void* vector, int64_t external);

  const format::PointFile& points_;
  const HotRows& hot_;
  ReadBuffers buffers_;
  uint32_t slot_;
  std::vector<Candidate> candidates_;  // in the order of scores
  std::vector<uint32_t> free_, rank_of_;
  size_t wanted_ = 0, begun_ = 0, arrived_ = 0;  // of the candidates
  uint32_t reads_ = 0, rounds_ = 0;
};

}  // namespace bigrain::search
