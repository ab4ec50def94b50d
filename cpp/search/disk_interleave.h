// SPDX-License-Identifier: Apache-2.0
// Several queries at a time on one thread, whose vectors are read from SSD: while one waits for its
// reads, others walk. With one query it is the one with the least latency, with many the queue of
// the device stays filled; nobody waits for the slowest read of a batch but the query that asked.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "bigrain/index.h"
#include "format/point_file.h"
#include "io/reader_pool.h"
#include "search/query_search.h"
#include "search/vector_reads.h"

namespace bigrain::search {

// One per thread. `search`, `points` and `hot` are borrowed.
class DiskInterleaver {
 public:
  // `queries`: how many there will be at most; few need few buffers.
  DiskInterleaver(const QuerySearch& search, const format::PointFile& points, const HotRows& hot,
                  io::ReaderPool& readers, size_t queries);

  // Answers rows begin to end of `queries`. Throws Error(io) or Error(corrupt) with nothing left in
  // flight.
  void run(const MatrixView& queries, size_t begin, size_t end, const SearchOutput& output);

 private:
  struct Slot {
    Slot(size_t stride, const format::PointFile& points, const HotRows& hot, ReadBuffers buffers,
         uint32_t number)
        : scratch(stride), reads(points, hot, buffers, number) {}
    QueryScratch scratch;
    VectorReads reads;
    size_t query = 0;
    enum class State { idle, walking, reading } state = State::idle;
  };

  bool step(Slot& slot, const SearchOutput& output);
  void take_answers(bool wait);

  const QuerySearch& search_;
  io::ReaderPool::Loan reader_;
  std::vector<std::unique_ptr<Slot>> slots_;
};

}  // namespace bigrain::search
