// SPDX-License-Identifier: Apache-2.0
#include "search/disk_search.h"

#include <algorithm>
#include <functional>
#include <thread>
#include <vector>

#include "bigrain/error.h"
#include "util/thread_pool.h"

namespace bigrain::search {

namespace {

// Reads of one query under way before it is known how many pay, and where no answer may depend on
// other queries: as DiskANN's usual beam. 1 would spare three or four reads, 8 a few rounds.
constexpr uint32_t kFirstReads = 4;
// Queries per block of work: many, since the end of each leaves the device with less to do.
constexpr size_t kBlockQueries = 1024;

// How many queries a thread walks at a time, and how.
struct Plan {
  uint32_t together;
  DiskWalkParams walk;
};

Plan plan_of(const DiskSearchParams& params, size_t rows, uint32_t threads) {
  const uint32_t fixed = params.reads != 0      ? std::min(params.reads, kPagesUnderWay)
                         : params.deterministic ? kFirstReads
                                                : 0;
  const auto each =
      static_cast<uint32_t>(std::clamp<size_t>((rows + threads - 1) / threads, 1, kPagesUnderWay));
  if (fixed != 0) {
    return {std::min(each, kPagesUnderWay / fixed),
            {params.k, params.window, params.slack, fixed, fixed, params.deterministic}};
  }
  const uint32_t most = kPagesUnderWay / each;
  return {each, {params.k, params.window, params.slack, std::min(most, kFirstReads), most, false}};
}

// Walks queries [begin, end) on one thread, `together` at a time.
class Turns {
 public:
  Turns(const DiskTerrain& terrain, const MatrixView& queries, const Plan& plan,
        const SearchOutput& output, const std::function<void()>& poll)
      : queries_(queries), k_(plan.walk.k), output_(output), poll_(poll) {
    for (uint32_t i = 0; i < plan.together; ++i) {
      walks_.push_back({DiskWalk(terrain, plan.walk), 0});
    }
  }

  void run(size_t begin, size_t end, PageReader& reader) {
    next_ = begin;
    end_ = end;
    busy_ = 0;
    for (uint32_t i = 0; i < walks_.size(); ++i) start_next(i, reader);
    reader.send();
    while (busy_ > 0) {
      poll_();
      for (const uint32_t slot : reader.wait()) {
        const uint32_t i = reader.owner(slot);
        walks_[i].walk.arrive(slot, reader);
        if (walks_[i].walk.is_finished()) {
          finish(i);
          --busy_;
          start_next(i, reader);
        }
        // At once: sent together, they left the device with half as much to do (bench/LOG.md).
        reader.send();
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
  const std::function<void()>& poll_;
  std::vector<Seat> walks_;
  size_t next_ = 0, end_ = 0, busy_ = 0;
};

}  // namespace

void search_on_disk(const DiskTerrain& terrain, io::ReaderPool& readers, const MatrixView& queries,
                    const DiskSearchParams& params, const SearchOutput& output, Monitor& monitor) {
  const uint32_t threads = static_cast<uint32_t>(
      std::min<size_t>(resolve_threads(params.threads), std::max<size_t>(queries.rows, 1)));
  const Plan plan = plan_of(params, queries.rows, threads);
  const size_t grain = std::min(kBlockQueries, (queries.rows + threads - 1) / threads);
  // Blocks take too long for polls between them.
  const std::thread::id caller = std::this_thread::get_id();
  const std::function<void()> poll = [&] {
    if (std::this_thread::get_id() == caller) {
      monitor.check();
    } else if (monitor.stopped()) {
      throw Error::cancelled();
    }
  };
  monitor.start(queries.rows);
  parallel_for(queries.rows, std::max<size_t>(grain, 1), threads, monitor,
               [&](size_t begin, size_t end, uint32_t) {
                 PageReader reader(terrain.points, readers, kPagesUnderWay);
                 Turns(terrain, queries, plan, output, poll).run(begin, end, reader);
                 monitor.advance(end - begin);
               });
}

}  // namespace bigrain::search
