// SPDX-License-Identifier: Apache-2.0
// Several queries in turn on one thread: while one waits for memory, another one computes.
//
// A walk reads rows and codes at random addresses, a few hundred cycles away each, and what it
// reads next follows from what it read last. Every step of a query ends by asking for what its next
// step reads (search/query_search.h); by the time its turn comes again, the data is there. The
// answers are those of queries run one after the other. (Known from database engines as interleaved
// execution: Psaropoulos et al., VLDB 2017.)
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "search/query_search.h"

namespace bigrain::search {

// Memory of one thread: a scratch per query under way.
class Interleaver {
 public:
  explicit Interleaver(const QuerySearch& search);

  // Answers queries [begin, end) of the matrix.
  void run(const MatrixView& queries, size_t begin, size_t end, const SearchOutput& output);

 private:
  struct Slot {
    explicit Slot(size_t stride) : scratch(stride) {}
    QueryScratch scratch;
    size_t query = 0;
  };

  const QuerySearch& search_;
  std::vector<std::unique_ptr<Slot>> slots_;
};

}  // namespace bigrain::search
