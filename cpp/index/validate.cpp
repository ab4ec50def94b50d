// SPDX-License-Identifier: Apache-2.0
// Index::validate: the promises of the graph, checked on the whole of it. What a file promises
// beyond them is checked by format/ when it is opened.
#include <algorithm>
#include <string>
#include <vector>

#include "bigrain/index.h"
#include "format/parts.h"
#include "util/monitor.h"

namespace bigrain {

namespace {

constexpr size_t kMaxProblems = 20;  // a report is read by a person

class GraphCheck {
 public:
  GraphCheck(const IndexParts& parts, Monitor& monitor)
      : rows_(parts.graph.as<uint32_t>()),
        count_(parts.meta.count),
        degree_(parts.meta.degree),
        entry_(parts.meta.entry),
        monitor_(monitor) {}

  ValidationReport run() {
    report_.points = count_;
    if (count_ == 0) return std::move(report_);
    monitor_.start(count_);
    bool sound = entry_ < count_;
    if (!sound) problem("entry " + std::to_string(entry_) + " is no point of the index");
    for (uint32_t vertex = 0; vertex < count_; ++vertex) {
      if (vertex % kPollEvery == 0) monitor_.check();
      if (!check_row(vertex)) sound = false;
      monitor_.advance(1);
    }
    if (sound) count_unreachable();
    return std::move(report_);
  }

 private:
  static constexpr uint32_t kPollEvery = 4096;

  void problem(std::string text) {
    if (report_.problems.size() < kMaxProblems) report_.problems.push_back(std::move(text));
  }

  std::span<const uint32_t> row(uint32_t vertex) const {
    const std::span<const uint32_t> whole = rows_.subspan(size_t{vertex} * degree_, degree_);
    const auto end = std::find(whole.begin(), whole.end(), vertex);
    return whole.first(static_cast<size_t>(end - whole.begin()));
  }

  // False if the row cannot be walked.
  bool check_row(uint32_t vertex) {
    const std::span<const uint32_t> neighbours = row(vertex);
    report_.edges += neighbours.size();
    report_.max_degree = std::max(report_.max_degree, static_cast<uint32_t>(neighbours.size()));
    if (neighbours.empty()) ++report_.empty_rows;
    const std::string name = "row " + std::to_string(vertex);
    const std::span<const uint32_t> padding =
        rows_.subspan(size_t{vertex} * degree_ + neighbours.size(), degree_ - neighbours.size());
    if (std::any_of(padding.begin(), padding.end(), [&](uint32_t id) { return id != vertex; })) {
      problem(name + ": neighbours after the end of the row");
    }
    sorted_.assign(neighbours.begin(), neighbours.end());
    std::sort(sorted_.begin(), sorted_.end());
    if (std::adjacent_find(sorted_.begin(), sorted_.end()) != sorted_.end()) {
      problem(name + ": names a neighbour twice");
    }
    if (sorted_.empty() || sorted_.back() < count_) return true;
    problem(name + ": names vertex " + std::to_string(sorted_.back()) + " of " +
            std::to_string(count_));
    return false;
  }

  void count_unreachable() {
    std::vector<bool> reached(count_);
    std::vector<uint32_t> queue{entry_};
    reached[entry_] = true;
    for (size_t head = 0; head < queue.size(); ++head) {
      if (head % kPollEvery == 0) monitor_.check();
      for (uint32_t neighbour : row(queue[head])) {
        if (reached[neighbour]) continue;
        reached[neighbour] = true;
        queue.push_back(neighbour);
      }
    }
    report_.unreachable = count_ - queue.size();
    if (report_.unreachable != 0) {
      problem(std::to_string(report_.unreachable) + " points cannot be reached from the entry");
    }
  }

  std::span<const uint32_t> rows_;
  uint64_t count_;
  size_t degree_;
  uint32_t entry_;
  Monitor& monitor_;
  ValidationReport report_;
  std::vector<uint32_t> sorted_;
};

}  // namespace

ValidationReport Index::validate(Monitor& monitor) const {
  require_memory("validate");
  return GraphCheck(*parts_, monitor).run();
}

}  // namespace bigrain
