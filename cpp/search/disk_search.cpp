// SPDX-License-Identifier: Apache-2.0
#include "search/disk_search.h"

#include <algorithm>
#include <vector>

#include "util/thread_pool.h"

namespace bigrain::search {

namespace {

// Reads of one query under way where it has the thread to itself, before it is known how many pay.
constexpr uint32_t kFirstReads = 4;
// Queries per block of work: about 0.1 s, so that Ctrl-C is seen.
constexpr size_t kBlockQueries = 256;

DiskWalkParams walk_params(const DiskSearchParams& params, uint32_t together) {
  if (together == 1) {
    return {params.k, params.window, kFirstReads, kPagesUnderWay, params.deterministic};
  }
  return {params.k, params.window, 1, kPagesUnderWay / together, params.deterministic};
}

// Walks queries [begin, end) on one thread, `together` at a time.
class Turns {
 public:
  Turns(const DiskTerrain& terrain, const MatrixView& queries, const DiskSearchParams& params,
        uint32_t together, const SearchOutput& output)
      : queries_(queries), k_(params.k), output_(output) {
    const DiskWalkParams walk = walk_params(params, together);
    for (uint32_t i = 0; i < together; ++i) walks_.push_back({DiskWalk(terrain, walk), 0});
  }

  void run(size_t begin, size_t end, PageReader& reader) {
    next_ = begin;
    end_ = end;
    busy_ = 0;
    for (uint32_t i = 0; i < walks_.size(); ++i) start_next(i, reader);
    while (busy_ > 0) {
      reader.send();
      for (const uint32_t slot : reader.wait()) {
        const uint32_t i = reader.owner(slot);
        walks_[i].walk.arrive(slot, reader);
        if (!walks_[i].walk.is_finished()) continue;
        finish(i);
        --busy_;
        start_next(i, reader);
      }
    }
  }

 private:
  struct Seat {
    DiskWalk walk;
    size_t query;
  };

  void start_next(uint32_t i, PageReader& reader) {
    Seat& seat = walks_[i];
    while (next_ < end_) {
      seat.query = next_++;
      seat.walk.start(queries_.row(seat.query), i, reader);
      if (!seat.walk.is_finished()) {
        ++busy_;
        return;
      }
      finish(i);
    }
  }

  void finish(uint32_t i) {
    Seat& seat = walks_[i];
    const size_t first = seat.query * k_;
    const QueryStats stats = seat.walk.finish(output_.ids + first, output_.distances + first);
    if (output_.stats != nullptr) output_.stats[seat.query] = stats;
  }

  MatrixView queries_;
  size_t k_;
  SearchOutput output_;
  std::vector<Seat> walks_;
  size_t next_ = 0, end_ = 0, busy_ = 0;
};

uint32_t queries_together(const DiskSearchParams& params, size_t rows, uint32_t threads) {
  if (params.together != 0) return std::min(params.together, kMostTogether);
  const size_t each = (rows + threads - 1) / threads;
  return static_cast<uint32_t>(std::clamp<size_t>(each, 1, kMostTogether));
}

}  // namespace

void search_on_disk(const DiskTerrain& terrain, io::ReaderPool& readers, const MatrixView& queries,
                    const DiskSearchParams& params, const SearchOutput& output, Monitor& monitor) {
  const uint32_t threads = static_cast<uint32_t>(
      std::min<size_t>(resolve_threads(params.threads), std::max<size_t>(queries.rows, 1)));
  const uint32_t together = queries_together(params, queries.rows, threads);
  const size_t grain = std::min(kBlockQueries, (queries.rows + threads - 1) / threads);
  monitor.start(queries.rows);
  parallel_for(queries.rows, std::max<size_t>(grain, 1), threads, monitor,
               [&](size_t begin, size_t end, uint32_t) {
                 PageReader reader(terrain.points, readers, kPagesUnderWay);
                 Turns(terrain, queries, params, together, output).run(begin, end, reader);
                 monitor.advance(end - begin);
               });
}

}  // namespace bigrain::search
