// SPDX-License-Identifier: Apache-2.0
#include "graph/repair.h"

namespace bigrain::graph {

namespace {

constexpr uint32_t kUnreached = 0xffffffffu;

class Repairer {
 public:
  Repairer(Rows& rows, const CodeDistances& distances, uint32_t entry, uint32_t width)
      : rows_(rows),
        distances_(distances),
        entry_(entry),
        width_(width),
        parents_(rows.count(), kUnreached),
        pivot_(distances.codes.stride) {}

  void run(Monitor& monitor) {
    parents_[entry_] = entry_;
    spread(entry_);
    for (uint32_t point = 0; point < rows_.count(); ++point) {
      if (parents_[point] != kUnreached) continue;
      monitor.check();
      attach(point);
      spread(point);
    }
  }

 private:
  // Breadth-first over what is not reached yet.
  void spread(uint32_t from) {
    queue_.assign(1, from);
    for (size_t head = 0; head < queue_.size(); ++head) {
      const uint32_t vertex = queue_[head];
      for (uint32_t neighbour : rows_.row(vertex)) {
        if (parents_[neighbour] != kUnreached) continue;
        parents_[neighbour] = vertex;
        queue_.push_back(neighbour);
      }
    }
  }

  void attach(uint32_t point) {
    QueryStats stats;
    pivot_.set(distances_, point);
    search::greedy_search(rows_.view(), distances_.codes, pivot_.query(), distances_.score_codes,
                          entry_, width_, width_, scratch_, stats);
    for (size_t i = 0; i < scratch_.pool.size(); ++i) {
      if (link(scratch_.pool.id(i), point)) return;
    }
    // Everything near is full of tree edges: any reached vertex with room will do, and one exists.
    while (parents_[candidate_] == kUnreached || !link(candidate_, point)) {
      candidate_ = (candidate_ + 1) % static_cast<uint32_t>(rows_.count());
    }
  }

  bool link(uint32_t vertex, uint32_t point) {
    const std::span<const uint32_t> row = rows_.row(vertex);
    if (row.size() < rows_.stride()) {
      rows_.append(vertex, point);
    } else {
      size_t position = row.size();
      while (position > 0 && parents_[row[position - 1]] == vertex) --position;
      if (position == 0) return false;
      rows_.replace(vertex, position - 1, point);
    }
    parents_[point] = vertex;
    return true;
  }

  Rows& rows_;
  const CodeDistances& distances_;
  uint32_t entry_, width_;
  std::vector<uint32_t> parents_;  // of the search tree
  Pivot pivot_;
  search::GreedyScratch scratch_;
  std::vector<uint32_t> queue_;
  uint32_t candidate_ = 0;
};

}  // namespace

void repair(Rows& rows, const CodeDistances& distances, uint32_t entry, uint32_t width,
            Monitor& monitor) {
  Repairer(rows, distances, entry, width).run(monitor);
}

}  // namespace bigrain::graph
