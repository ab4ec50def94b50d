// SPDX-License-Identifier: Apache-2.0
#include "index/disk_build/links.h"

#include <algorithm>
#include <memory>

#include "index/disk_build/chooser.h"
#include "io/bucket_file.h"
#include "io/stream.h"

namespace bigrain::disk_build {

namespace {

// An edge back.
struct Edge {
  uint32_t target;  // within its home
  uint32_t source;  // place
};

// Codes gathered at a time take half of the memory, lists and rows a quarter: up to 3 R places of
// every shard's list in the worst case, and two rows.
size_t most_codes(const LinkJob& job) {
  return std::max<size_t>(2 * job.budget.sorting() / code_stride(job.params.dim), 1);
}

uint32_t run_points(const LinkJob& job) {
  const size_t bytes = sizeof(uint32_t) * job.params.degree * (3 * kCopies + 2);
  return static_cast<uint32_t>(std::max<size_t>(job.budget.sorting() / bytes, 64));
}

// body(home, first place, end) for runs of every home.
template <class Body>
void for_each_run(const LinkJob& job, size_t home, Body body) {
  const uint32_t end = job.homes.begin(home + 1), step = run_points(job);
  for (uint32_t first = job.homes.begin(home); first < end; first += std::min(step, end - first)) {
    body(first, first + std::min(step, end - first));
  }
}

class Forward {
 public:
  Forward(const LinkJob& job, WorkFolder& work, Monitor& monitor)
      : job_(job),
        work_(work),
        monitor_(monitor),
        codes_(work.open("codes")),
        chooser_(job.homes, codes_, job.params, most_codes(job), job.kernels),
        rows_(work.create("forward"), job.budget.buffers() / 8),
        followers_(work.create("followers"), job.budget.buffers() / 8),
        edges_(work.create("edges"),
               io::bucket_shape(job.homes.count(), sizeof(Edge), job.budget.buffers() / 4)) {}

  void run() {
    monitor_.start(job_.homes.points());
    for (size_t home = 0; home < job_.homes.count(); ++home) {
      open_lists(home);
      for_each_run(job_, home, [this](uint32_t first, uint32_t end) { link(first, end); });
    }
    rows_.finish();
    followers_.finish();
    edges_.finish();
  }

 private:
  void open_lists(size_t home) {
    const size_t shards = job_.homes.count();
    size_t open = 0;
    for (size_t shard = 0; shard < shards; ++shard) open += job_.counts.at(shard, home) != 0;
    const size_t buffer = job_.budget.buffers() / 4 / std::max<size_t>(open, 1);
    lists_.clear();
    for (size_t shard = 0; shard < shards; ++shard) {
      if (job_.counts.at(shard, home) == 0) continue;
      lists_.push_back(std::make_unique<ListReader>(work_, shard, shards, home, buffer));
    }
  }

  void link(uint32_t first, uint32_t end) {
    near_.clear();
    far_.clear();
    for (uint32_t place = first; place < end; ++place) read(place);
    chooser_.prune(first, near_, far_, rows_here_, monitor_);
    rows_.append(rows_here_.data(), rows_here_.size() * sizeof(uint32_t));
    for (uint32_t place = first; place < end; ++place) send_back(place, place - first);
    monitor_.advance(end - first);
  }

  // The candidates of a point from all of its shards.
  void read(uint32_t place) {
    uint32_t leader = place;
    for (const auto& list : lists_) {
      const ListHeader* const header = list->peek();
      if (header == nullptr || header->place != place) continue;
      if (leader == place) leader = header->leader;
      list->take(near_.places, far_.places);
    }
    if (leader != place) {
      const Follower follower{place, leader};
      followers_.append(&follower, sizeof follower);
      near_.places.resize(near_.starts.back());
      far_.places.resize(far_.starts.back());
    }
    near_.end_list();
    far_.end_list();
  }

  void send_back(uint32_t place, size_t row) {
    const size_t degree = job_.params.degree;
    for (const uint32_t target : std::span(rows_here_).subspan(row * degree, degree)) {
      if (target == kNoPlace) break;
      const size_t home = job_.homes.of(target);
      const Edge edge{target - job_.homes.begin(home), place};
      edges_.append(home, &edge);
    }
  }

  const LinkJob& job_;
  WorkFolder& work_;
  Monitor& monitor_;
  io::BucketReader codes_;
  Chooser chooser_;
  io::AppendStream rows_, followers_;
  io::BucketWriter edges_;
  std::vector<std::unique_ptr<ListReader>> lists_;
  Lists near_, far_;
  std::vector<uint32_t> rows_here_;
};

// Edges back to the points of one home, of as many points at a time as fit.
class Incoming {
 public:
  Incoming(const io::BucketReader& edges, size_t home, size_t points, size_t most_edges)
      : edges_(edges), home_(home), most_(most_edges), starts_(points + 1) {
    for_each([this](const Edge& edge) { ++starts_[edge.target + size_t{1}]; });
    for (size_t i = 0; i < points; ++i) starts_[i + 1] += starts_[i];
  }

  std::span<const uint32_t> of(uint32_t point) {
    if (point >= end_) load(point);
    return std::span(sources_).subspan(starts_[point] - starts_[begin_],
                                       starts_[point + size_t{1}] - starts_[point]);
  }

 private:
  template <class Visit>
  void for_each(Visit visit) {
    std::vector<Edge> extent(edges_.shape().extent_records);
    for (size_t e = 0; e < edges_.extents(home_); ++e) {
      edges_.read_extent(home_, e, extent.data());
      for (size_t i = 0; i < edges_.extent_count(home_, e); ++i) {
        if (extent[i].target + size_t{1} >= starts_.size()) {
          throw Error::corrupt("the work folder's edges are damaged; begin anew with clean");
        }
        visit(extent[i]);
      }
    }
  }

  void load(uint32_t from) {
    begin_ = from;
    end_ = from + 1;
    while (end_ + size_t{1} < starts_.size() &&
           starts_[end_ + size_t{1}] - starts_[from] <= most_) {
      ++end_;
    }
    sources_.resize(starts_[end_] - starts_[from]);
    std::vector<uint64_t> next(starts_.begin() + from, starts_.begin() + end_);
    for_each([&](const Edge& edge) {
      if (edge.target < begin_ || edge.target >= end_) return;
      sources_[next[edge.target - begin_]++ - starts_[begin_]] = edge.source;
    });
  }

  const io::BucketReader& edges_;
  size_t home_, most_;
  std::vector<uint64_t> starts_;  // by point
  uint32_t begin_ = 0, end_ = 0;  // points in memory
  std::vector<uint32_t> sources_;
};

class Back {
 public:
  Back(const LinkJob& job, WorkFolder& work, Monitor& monitor)
      : job_(job),
        monitor_(monitor),
        codes_(work.open("codes")),
        edges_(work.open("edges")),
        chooser_(job.homes, codes_, job.params, most_codes(job) / 2, job.kernels),
        forward_file_(work.open("forward")),
        forward_(forward_file_, 0, forward_file_.info().size, job.budget.buffers() / 8),
        rows_(work.create("rows"),
              io::bucket_shape((job.homes.points() + bucket_rows(job) - 1) / bucket_rows(job),
                               (job.params.degree + size_t{1}) * sizeof(uint32_t),
                               job.budget.buffers() / 2)),
        record_(job.params.degree + size_t{1}) {}

  void run() {
    monitor_.start(job_.homes.points());
    for (size_t home = 0; home < job_.homes.count(); ++home) {
      const uint32_t base = job_.homes.begin(home), end = job_.homes.begin(home + 1);
      Incoming incoming(edges_, home, end - base, job_.budget.sorting() / sizeof(uint32_t));
      for_each_run(job_, home, [&](uint32_t first, uint32_t last) {
        lists_.clear();
        for (uint32_t place = first; place < last; ++place) read(incoming.of(place - base));
        chooser_.finish(first, lists_, rows_here_, monitor_);
        for (uint32_t place = first; place < last; ++place) send(place, place - first);
        monitor_.advance(last - first);
      });
    }
    rows_.finish();
  }

 private:
  // The row that the next point chose, and who chose it.
  void read(std::span<const uint32_t> sources) {
    const size_t degree = job_.params.degree, from = lists_.places.size();
    lists_.places.resize(from + degree);
    forward_.read(&lists_.places[from], degree * sizeof(uint32_t));
    while (lists_.places.size() > from && lists_.places.back() == kNoPlace) {
      lists_.places.pop_back();
    }
    lists_.places.insert(lists_.places.end(), sources.begin(), sources.end());
    lists_.end_list();
  }

  void send(uint32_t place, size_t row) {
    const size_t degree = job_.params.degree;
    const uint32_t id = job_.ids[place];
    std::fill(record_.begin(), record_.end(), id);
    for (size_t j = 0; j < degree && rows_here_[row * degree + j] != kNoPlace; ++j) {
      record_[j + 1] = job_.ids[rows_here_[row * degree + j]];
    }
    rows_.append(id / bucket_rows(job_), record_.data());
  }

  const LinkJob& job_;
  Monitor& monitor_;
  io::BucketReader codes_, edges_;
  Chooser chooser_;
  io::File forward_file_;
  io::ReadStream forward_;
  io::BucketWriter rows_;
  Lists lists_;
  std::vector<uint32_t> rows_here_, record_;
};

}  // namespace

void link_forward(const LinkJob& job, WorkFolder& work, Monitor& monitor) {
  Forward(job, work, monitor).run();
}

void link_back(const LinkJob& job, WorkFolder& work, Monitor& monitor) {
  Back(job, work, monitor).run();
}

uint64_t bucket_rows(const LinkJob& job) {
  return std::max<uint64_t>(job.budget.sorting() / (job.params.degree * sizeof(uint32_t)), 1);
}

}  // namespace bigrain::disk_build
