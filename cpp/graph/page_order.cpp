// SPDX-License-Identifier: Apache-2.0
#include "graph/page_order.h"

#include <algorithm>
#include <span>
#include <string>

#include "bigrain/error.h"

namespace bigrain::graph {

namespace {

// Calls visit(id) for the neighbours of `vertex`.
template <class Visit>
void for_neighbours(const search::GraphView& graph, uint32_t vertex, Visit visit) {
  const uint32_t* const row = graph.row(vertex);
  for (size_t i = 0; i < graph.stride && row[i] != vertex; ++i) {
    if (row[i] >= graph.count) {
      throw Error::corrupt("section graph: row " + std::to_string(vertex) + " names vertex " +
                           std::to_string(row[i]) + "; expected ids below " +
                           std::to_string(graph.count) +
                           "; the index is damaged, build or copy it again");
    }
    visit(row[i]);
  }
}

std::vector<uint32_t> breadth_first(const search::GraphView& graph, uint32_t entry) {
  std::vector<uint32_t> order;
  order.reserve(graph.count);
  std::vector<bool> seen(graph.count);
  const auto take = [&](uint32_t id) {
    if (!seen[id]) order.push_back(id);
    seen[id] = true;
  };
  take(entry);
  for (size_t i = 0; i < order.size(); ++i) for_neighbours(graph, order[i], take);
  for (uint32_t id = 0; id < graph.count; ++id) take(id);  // what the entry does not reach
  return order;
}

class Packer {
 public:
  Packer(const CodeDistances& distances, const search::GraphView& graph)
      : distances_(distances), graph_(graph), placed_(graph.count), met_(graph.count) {}

  bool is_placed(uint32_t id) const { return placed_[id]; }

  // The points of a new page, which begins with `first`.
  const std::vector<uint32_t>& fill(uint32_t first, size_t per_page) {
    page_.clear();
    ++number_;
    ids_.clear();
    sums_.clear();
    place(first);
    while (page_.size() < per_page && !ids_.empty()) {
      const size_t at = nearest();
      const uint32_t id = ids_[at];
      ids_[at] = ids_.back();
      sums_[at] = sums_.back();
      ids_.pop_back();
      sums_.pop_back();
      place(id);
    }
    return page_;
  }

 private:
  // The candidate of the least sum; ties by the smaller id.
  size_t nearest() const {
    size_t best = 0;
    for (size_t i = 1; i < ids_.size(); ++i) {
      if (sums_[i] < sums_[best] || (sums_[i] == sums_[best] && ids_[i] < ids_[best])) best = i;
    }
    return best;
  }

  void place(uint32_t id) {
    placed_[id] = true;
    if (pivots_.size() == page_.size()) pivots_.emplace_back(distances_.codes.stride);
    pivots_[page_.size()].set(distances_, id);
    page_.push_back(id);
    add(pivots_[page_.size() - 1], ids_, sums_.data());
    const size_t before = ids_.size();
    for_neighbours(graph_, id, [&](uint32_t neighbour) {
      if (placed_[neighbour] || met_[neighbour] == number_) return;
      met_[neighbour] = number_;
      ids_.push_back(neighbour);
    });
    sums_.resize(ids_.size(), 0.0f);
    for (size_t i = 0; i < page_.size(); ++i) {
      add(pivots_[i], std::span(ids_).subspan(before), sums_.data() + before);
    }
  }

  void add(const Pivot& pivot, std::span<const uint32_t> ids, float* sums) {
    scores_.resize(ids.size());
    pivot.distances_to(distances_, ids, scores_.data());
    for (size_t i = 0; i < ids.size(); ++i) sums[i] += scores_[i];
  }

  const CodeDistances& distances_;
  const search::GraphView& graph_;
  std::vector<Pivot> pivots_;  // of the points of the page
  std::vector<bool> placed_;
  std::vector<uint32_t> met_;  // the number of the page for which a point became a candidate last
  uint32_t number_ = 0;
  std::vector<uint32_t> page_, ids_;
  std::vector<float> sums_, scores_;  // sums_: of a candidate's distances to the page's points
};

}  // namespace

std::vector<uint32_t> page_order(const CodeDistances& distances, const search::GraphView& graph,
                                 uint32_t entry, size_t per_page, Monitor& monitor) {
  std::vector<uint32_t> order, rest;
  if (graph.count == 0) return order;
  order.reserve(graph.count);
  Packer packer(distances, graph);
  for (const uint32_t id : breadth_first(graph, entry)) {
    if (packer.is_placed(id)) continue;
    monitor.check();
    const std::vector<uint32_t>& page = packer.fill(id, per_page);
    std::vector<uint32_t>& to = page.size() == per_page ? order : rest;
    to.insert(to.end(), page.begin(), page.end());
  }
  order.insert(order.end(), rest.begin(), rest.end());
  return order;
}

}  // namespace bigrain::graph
