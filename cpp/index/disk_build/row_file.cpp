// SPDX-License-Identifier: Apache-2.0
#include "index/disk_build/row_file.h"

#include <algorithm>

#include "graph/copies.h"
#include "io/bucket_file.h"

namespace bigrain::disk_build {

namespace {

constexpr size_t kPollEvery = 1024;
// The part of a hub's row that leads to other hubs.
constexpr size_t kHubShare = 2;

// Sorted by place, with leaders that follow nobody.
std::vector<Follower> load_followers(const WorkFolder& work) {
  const io::File file = work.open("followers");
  std::vector<Follower> followers(file.info().size / sizeof(Follower));
  file.read(0, followers.data(), followers.size() * sizeof(Follower));
  std::sort(followers.begin(), followers.end(),
            [](const Follower& a, const Follower& b) { return a.place < b.place; });
  const auto leader_of = [&](uint32_t place) {
    const auto at =
        std::lower_bound(followers.begin(), followers.end(), place,
                         [](const Follower& f, uint32_t wanted) { return f.place < wanted; });
    return at != followers.end() && at->place == place ? at->leader : place;
  };
  // In each shard the leader has the lesser place, or is the entry, which follows nobody: chains
  // end.
  for (Follower& follower : followers) {
    for (uint32_t next = leader_of(follower.leader); next != follower.leader;
         next = leader_of(follower.leader)) {
      follower.leader = next;
    }
  }
  return followers;
}

}  // namespace

void RowFile::read(uint32_t id, std::vector<uint32_t>& row) const {
  row.resize(degree_);
  read_block(id, 1, row.data());
  row.erase(std::find(row.begin(), row.end(), id), row.end());
}

void RowFile::assign(uint32_t id, std::span<const uint32_t> neighbours) {
  auto end = raw_.begin();
  // A row of copies may name one of them twice: who follows in one shard may lead in another.
  for (const uint32_t neighbour : neighbours) {
    if (neighbour != id && std::find(raw_.begin(), end, neighbour) == end) *end++ = neighbour;
  }
  std::fill(end, raw_.end(), id);
  write_block(id, raw_);
}

void RowFile::read_block(uint64_t first, size_t count, uint32_t* to) const {
  const size_t bytes = count * degree_ * sizeof(uint32_t);
  const bool whole = file_.read(first * degree_ * sizeof(uint32_t), to, bytes) == bytes;
  if (!whole || std::any_of(to, to + count * degree_, [&](uint32_t id) { return id >= count_; })) {
    throw Error::corrupt("'" + file_.path() + "' is damaged; begin anew with clean");
  }
}

void RowFile::write_block(uint64_t first, std::span<const uint32_t> rows) {
  file_.write(first * degree_ * sizeof(uint32_t), rows.data(), rows.size_bytes());
}

RowFile order_rows(const LinkJob& job, WorkFolder& work, Monitor& monitor) {
  const size_t degree = job.params.degree;
  const uint64_t step = bucket_rows(job);
  const io::BucketReader buckets(work.open("rows"));
  RowFile rows(work.create("graph"), job.homes.points(), job.params.degree);
  Buffer block(std::min<uint64_t>(step, job.homes.points()) * degree * sizeof(uint32_t));
  std::vector<uint32_t> extent(buckets.shape().extent_records * (degree + 1));
  monitor.start(job.homes.points());
  for (size_t bucket = 0; bucket < buckets.shape().buckets; ++bucket) {
    const uint64_t first = bucket * step,
                   count = std::min<uint64_t>(step, job.homes.points() - first);
    for (size_t e = 0; e < buckets.extents(bucket); ++e) {
      monitor.check();
      buckets.read_extent(bucket, e, extent.data());
      for (size_t i = 0; i < buckets.extent_count(bucket, e); ++i) {
        const uint32_t* const record = &extent[i * (degree + 1)];
        const uint64_t at = record[0] - first;
        if (at >= count) throw Error::corrupt("the work folder's rows are damaged");
        std::copy_n(record + 1, degree, block.as<uint32_t>().data() + at * degree);
      }
    }
    rows.write_block(first, block.as<uint32_t>().first(count * degree));
    monitor.advance(count);
  }
  return rows;
}

void attach_followers(const LinkJob& job, const WorkFolder& work, RowFile& rows, Monitor& monitor) {
  graph::Copies copies;
  for (const Follower& follower : load_followers(work)) {
    if (follower.place >= rows.count() || follower.leader >= rows.count()) {
      throw Error::corrupt("the work folder's followers are damaged; begin anew with clean");
    }
    copies.others.push_back({job.ids[follower.leader], job.ids[follower.place]});
  }
  std::vector<graph::Edge> scratch;
  graph::group_by_target(copies.others, scratch, copies.groups);
  graph::attach_copies(copies, rows, monitor);
}

void join_hubs(const LinkJob& job, const WorkFolder& work, RowFile& rows, Monitor& monitor) {
  const Buffer bytes = work.load_blob("hubs");
  const std::span<const uint32_t> hubs = bytes.as<uint32_t>();
  const io::BucketReader codes(work.open("codes"));
  std::vector<uint32_t> places(rows.count());
  for (uint32_t place = 0; place < places.size(); ++place) places[job.ids[place]] = place;
  Gathered gathered(job.homes, codes);
  for (const uint32_t hub : hubs) gathered.mark(places[hub]);
  gathered.load(monitor);
  const size_t degree = job.params.degree, share = std::max<size_t>(degree / kHubShare, 1);
  const graph::CodeDistances distances{gathered.codes(), job.kernels.score_codes,
                                       job.params.build.metric == Metric::ip};
  graph::PruneScratch scratch(gathered.codes().stride);
  graph::Pivot pivot(gathered.codes().stride);
  std::vector<search::ScoredId> candidates;
  std::vector<uint32_t> chosen(share), old, row;
  for (const uint32_t hub : hubs) {
    monitor.check();
    candidates.clear();
    pivot.set(distances, gathered.number(places[hub]));
    for (const uint32_t other : hubs) {
      if (other == hub) continue;
      const uint32_t number = gathered.number(places[other]);
      candidates.push_back({0, number});
      pivot.distances_to(distances, std::span(&number, 1), &candidates.back().score);
    }
    const size_t count =
        graph::robust_prune(distances, candidates, job.params.alpha, share, scratch, chosen.data());
    rows.read(hub, old);
    row.clear();
    for (size_t i = 0; i < count; ++i) row.push_back(job.ids[gathered.place(chosen[i])]);
    for (const uint32_t neighbour : old) {
      const bool is_new = std::find(row.begin(), row.end(), neighbour) == row.end();
      if (is_new && row.size() < degree) row.push_back(neighbour);
    }
    rows.assign(hub, row);
  }
}

namespace {

class Repairer {
 public:
  Repairer(RowFile& rows, uint32_t entry, size_t block, Monitor& monitor)
      : rows_(rows),
        block_(std::max<size_t>(block, 1)),
        monitor_(monitor),
        parents_(rows.count(), kUnreached),
        candidate_(entry) {
    parents_[entry] = entry;
  }

  void run() {
    spread_to_all();
    while (attach_by_neighbours()) {
    }
    for (uint32_t point = 0; point < parents_.size(); ++point) {
      if (parents_[point] != kUnreached) continue;
      // Any reached vertex with room will do: a tree on m vertices has m - 1 edges, so one exists.
      while (parents_[candidate_] == kUnreached || !link(candidate_, point)) {
        candidate_ = (candidate_ + 1) % static_cast<uint32_t>(parents_.size());
      }
      spread(point);
    }
  }

 private:
  static constexpr uint32_t kUnreached = 0xffffffffu;

  // Rows are read in their order, again and again, until no new vertex is reached.
  void spread_to_all() {
    const size_t degree = rows_.stride();
    std::vector<uint32_t> block(block_ * degree);
    std::vector<bool> done(parents_.size());
    for (bool any = true; any;) {
      any = false;
      for (size_t first = 0; first < parents_.size(); first += block_) {
        monitor_.check();
        const size_t count = std::min(block_, parents_.size() - first);
        rows_.read_block(first, count, block.data());
        for (size_t i = 0; i < count; ++i) {
          const auto vertex = static_cast<uint32_t>(first + i);
          if (parents_[vertex] == kUnreached || done[vertex]) continue;
          done[vertex] = any = true;
          for (const uint32_t next : std::span(block).subspan(i * degree, degree)) {
            if (parents_[next] == kUnreached) parents_[next] = vertex;
          }
        }
      }
    }
  }

  // Each unreached point from the nearest of its own neighbours that is reached and has room.
  bool attach_by_neighbours() {
    bool any = false;
    std::vector<uint32_t> row;
    for (uint32_t point = 0; point < parents_.size(); ++point) {
      if (point % kPollEvery == 0) monitor_.check();
      if (parents_[point] != kUnreached) continue;
      rows_.read(point, row);
      for (const uint32_t neighbour : row) {
        if (parents_[neighbour] == kUnreached || !link(neighbour, point)) continue;
        spread(point);
        any = true;
        break;
      }
    }
    return any;
  }

  void spread(uint32_t from) {
    queue_.assign(1, from);
    for (size_t head = 0; head < queue_.size(); ++head) {
      if (head % kPollEvery == 0) monitor_.check();
      rows_.read(queue_[head], row_);
      for (const uint32_t next : row_) {
        if (parents_[next] != kUnreached) continue;
        parents_[next] = queue_[head];
        queue_.push_back(next);
      }
    }
  }

  // In a free slot, else in place of the farthest edge that is not part of the search tree.
  bool link(uint32_t vertex, uint32_t point) {
    rows_.read(vertex, row_);
    size_t position = row_.size();
    if (position < rows_.stride()) {
      row_.push_back(point);
    } else {
      while (position > 0 && parents_[row_[position - 1]] == vertex) --position;
      if (position == 0) return false;
      row_[position - 1] = point;
    }
    rows_.assign(vertex, row_);
    parents_[point] = vertex;
    return true;
  }

  RowFile& rows_;
  size_t block_;
  Monitor& monitor_;
  std::vector<uint32_t> parents_;  // of the search tree
  uint32_t candidate_;
  std::vector<uint32_t> queue_, row_;
};

}  // namespace

void repair_rows(RowFile& rows, uint32_t entry, size_t block, Monitor& monitor) {
  Repairer(rows, entry, block, monitor).run();
}

}  // namespace bigrain::disk_build
