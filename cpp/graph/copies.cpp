// SPDX-License-Identifier: Apache-2.0
#include "graph/copies.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "util/thread_pool.h"

namespace bigrain::graph {

namespace {

constexpr uint32_t kNobody = 0xffffffffu;
constexpr size_t kGrain = 1024;  // records hashed at a time: a millisecond or less
constexpr size_t kPollEvery = size_t{1} << 16;
// The part of a copy's row that leads on within the group.
constexpr size_t kTreeShare = 4;

// Multiply and fold by the 128-bit product; the constant is 2^64 / golden ratio.
uint64_t mix(uint64_t value) {
  const auto product = static_cast<unsigned __int128>(value) * 0x9e3779b97f4a7c15u;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t hash_of(const std::byte* record, size_t stride) {
  uint64_t hash = 1;
  for (size_t i = 0; i < stride; i += sizeof(uint64_t)) {
    uint64_t word;
    std::memcpy(&word, record + i, sizeof word);
    hash = mix(hash ^ word) + i;
  }
  return hash;
}

// Open addressing by linear steps; an entry is the first point of its group.
class Groups {
 public:
  Groups(const search::CodesView& codes, size_t count, uint32_t threads, Monitor& monitor)
      : codes_(codes), hashes_(count), table_(std::bit_ceil(2 * count), kNobody) {
    parallel_for(count, kGrain, threads, monitor, [&](size_t begin, size_t end, uint32_t) {
      for (size_t i = begin; i < end; ++i) {
        hashes_[i] = hash_of(codes_.record(static_cast<uint32_t>(i)), codes_.stride);
      }
    });
  }

  // The first point like this one to come.
  uint32_t first_like(uint32_t point) {
    const size_t mask = table_.size() - 1;
    for (size_t slot = hashes_[point] & mask;; slot = (slot + 1) & mask) {
      uint32_t& first = table_[slot];
      if (first == kNobody) first = point;
      if (first == point || alike(first, point)) return first;
    }
  }

 private:
  bool alike(uint32_t a, uint32_t b) const {
    return hashes_[a] == hashes_[b] &&
           std::memcmp(codes_.record(a), codes_.record(b), codes_.stride) == 0;
  }

  search::CodesView codes_;
  std::vector<uint64_t> hashes_;
  std::vector<uint32_t> table_;
};

// Copy number i (0 is the first itself, then members) leads to copies i * fanout + 1 and on.
std::span<const Edge> children(std::span<const Edge> members, size_t i, size_t fanout) {
  const size_t begin = std::min(i == 0 ? 0 : (i - 1) * fanout + 1, members.size());
  return members.subspan(begin, std::min(i == 0 ? 1 : fanout, members.size() - begin));
}

class InMemory final : public RowStore {
 public:
  explicit InMemory(Rows& rows) : rows_(rows) {}

  size_t stride() const override { return rows_.stride(); }
  void read(uint32_t id, std::vector<uint32_t>& row) const override {
    const std::span<const uint32_t> found = rows_.row(id);
    row.assign(found.begin(), found.end());
  }
  void assign(uint32_t id, std::span<const uint32_t> neighbours) override {
    rows_.assign(id, neighbours);
  }

 private:
  Rows& rows_;
};

}  // namespace

Copies find_copies(const search::CodesView& codes, size_t count, uint32_t entry, uint32_t threads,
                   Monitor& monitor) {
  Groups groups(codes, count, threads, monitor);
  groups.first_like(entry);
  Copies copies;
  for (size_t i = 0; i < count; ++i) {
    if (i % kPollEvery == 0) monitor.check();
    const auto point = static_cast<uint32_t>(i);
    const uint32_t first = groups.first_like(point);
    if (first == point) {
      copies.firsts.push_back(point);
    } else {
      copies.others.push_back({first, point});
    }
  }
  std::vector<Edge> scratch;
  group_by_target(copies.others, scratch, copies.groups);
  return copies;
}

Leaders::Leaders(size_t count, uint32_t entry)
    : entry_(entry), leaders_(new std::atomic<uint32_t>[count]) {
  for (size_t i = 0; i < count; ++i) leaders_[i].store(static_cast<uint32_t>(i));
}

bool Leaders::offer(uint32_t point, uint32_t leader) {
  if (point == entry_) return false;
  uint32_t least = leaders_[point].load(std::memory_order_relaxed);
  while (leader < least &&
         !leaders_[point].compare_exchange_weak(least, leader, std::memory_order_relaxed)) {
  }
  return true;
}

uint32_t Leaders::of(uint32_t point) const {
  const uint32_t leader = leaders_[point].load(std::memory_order_relaxed);
  return leaders_[leader].load(std::memory_order_relaxed) == leader ? leader : point;
}

void join_followers(const Leaders& leaders, Copies& copies) {
  std::vector<uint32_t> firsts;
  for (Edge& edge : copies.others) edge.target = leaders.of(edge.target);
  for (uint32_t point : copies.firsts) {
    const uint32_t leader = leaders.of(point);
    if (leader == point) {
      firsts.push_back(point);
    } else {
      copies.others.push_back({leader, point});
    }
  }
  copies.firsts.swap(firsts);
  std::vector<Edge> scratch;
  group_by_target(copies.others, scratch, copies.groups);
}

void attach_copies(const Copies& copies, Rows& rows, Monitor& monitor) {
  InMemory store(rows);
  attach_copies(copies, store, monitor);
}

void attach_copies(const Copies& copies, RowStore& rows, Monitor& monitor) {
  const size_t stride = rows.stride(), fanout = std::max<size_t>(stride / kTreeShare, 1);
  std::vector<uint32_t> row, around, on;
  for (size_t g = 0; g + 1 < copies.groups.size(); ++g) {
    const auto members =
        std::span(copies.others).subspan(copies.groups[g], copies.groups[g + 1] - copies.groups[g]);
    rows.read(members.front().target, around);
    for (size_t i = 0; i < members.size(); ++i) {
      if (i % kPollEvery == 0) monitor.check();
      row.clear();
      for (const Edge& child : children(members, i + 1, fanout)) row.push_back(child.source);
      if (!around.empty()) {
        rows.read(around[i % around.size()], on);
        row.insert(row.end(), on.begin(),
                   on.begin() + static_cast<ptrdiff_t>(std::min(on.size(), stride - row.size())));
      }
      rows.assign(members[i].source, row);
    }
    monitor.advance(members.size());
  }
  // Only now, so that all of the above saw rows without copies.
  for (size_t g = 0; g + 1 < copies.groups.size(); ++g) {
    if (g % kPollEvery == 0) monitor.check();
    const Edge& edge = copies.others[copies.groups[g]];
    rows.read(edge.target, around);
    row.assign(1, edge.source);
    row.insert(row.end(), around.begin(),
               around.begin() + static_cast<ptrdiff_t>(std::min(around.size(), stride - 1)));
    rows.assign(edge.target, row);
  }
}

}  // namespace bigrain::graph
