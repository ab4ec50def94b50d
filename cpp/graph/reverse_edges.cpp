// SPDX-License-Identifier: Apache-2.0
#include "graph/reverse_edges.h"

#include <algorithm>
#include <array>

namespace bigrain::graph {

void group_by_target(std::vector<Edge>& edges, std::vector<Edge>& scratch,
                     std::vector<uint32_t>& groups) {
  constexpr uint32_t kDigitBits = 11, kDigits = 1u << kDigitBits;
  uint32_t largest = 0;
  for (const Edge& edge : edges) largest = std::max(largest, edge.target);
  scratch.resize(edges.size());
  for (uint32_t shift = 0; shift < 32 && (largest >> shift) != 0; shift += kDigitBits) {
    std::array<uint32_t, kDigits> starts{};
    for (const Edge& edge : edges) ++starts[edge.target >> shift & (kDigits - 1)];
    uint32_t total = 0;
    for (uint32_t& start : starts) {
      const uint32_t count = start;
      start = total;
      total += count;
    }
    for (const Edge& edge : edges) scratch[starts[edge.target >> shift & (kDigits - 1)]++] = edge;
    edges.swap(scratch);
  }
  groups.clear();
  for (size_t i = 0; i < edges.size(); ++i) {
    if (i == 0 || edges[i].target != edges[i - 1].target) {
      groups.push_back(static_cast<uint32_t>(i));
    }
  }
  groups.push_back(static_cast<uint32_t>(edges.size()));
}

}  // namespace bigrain::graph
