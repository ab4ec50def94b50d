// SPDX-License-Identifier: Apache-2.0
#include "graph/page_order.h"

#include <algorithm>
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
      : distances_(distances),
        graph_(graph),
        pivot_(distances.codes.stride),
        placed_(graph.count) {}

  bool is_placed(uint32_t id) const { return placed_[id]; }

  // The points of a new page, which begins with `first`.
  const std::vector<uint32_t>& fill(uint32_t first, size_t per_page) {
    page_.clear();
    heap_.clear();
    met_.clear();
    pivot_.set(distances_, first);
    place(first);
    while (page_.size() < per_page && !heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), is_farther);
      const uint32_t id = heap_.back().id;
      heap_.pop_back();
      place(id);
    }
    return page_;
  }

 private:
  static bool is_farther(const search::ScoredId& a, const search::ScoredId& b) {
    return a.score != b.score ? a.score > b.score : a.id > b.id;
  }

  void place(uint32_t id) {
    placed_[id] = true;
    page_.push_back(id);
    batch_.clear();
    for_neighbours(graph_, id, [&](uint32_t neighbour) {
      if (placed_[neighbour]) return;
      if (std::find(met_.begin(), met_.end(), neighbour) != met_.end()) return;
      met_.push_back(neighbour);
      batch_.push_back(neighbour);
    });
    scores_.resize(batch_.size());
    pivot_.distances_to(distances_, batch_, scores_.data());
    for (size_t i = 0; i < batch_.size(); ++i) {
      heap_.push_back({scores_[i], batch_[i]});
      std::push_heap(heap_.begin(), heap_.end(), is_farther);
    }
  }

  const CodeDistances& distances_;
  const search::GraphView& graph_;
  Pivot pivot_;
  std::vector<bool> placed_;
  std::vector<uint32_t> page_, met_, batch_;
  std::vector<float> scores_;
  std::vector<search::ScoredId> heap_;
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
