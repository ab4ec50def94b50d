// SPDX-License-Identifier: Apache-2.0
#include "index/check_graph.h"

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "bigrain/error.h"

namespace bigrain {

namespace {

// Rows between two polls: some milliseconds where rows are long.
constexpr uint64_t kPollEvery = 4096;

[[noreturn]] void fail(uint64_t vertex, const std::string& what) {
  throw Error::invalid("graph: row " + std::to_string(vertex) + " " + what);
}

// `sorted` is scratch.
void check_row(std::span<const uint32_t> row, uint32_t own, uint64_t count,
               std::vector<uint32_t>& sorted) {
  const auto end = std::find(row.begin(), row.end(), own);
  sorted.assign(row.begin(), end);
  std::sort(sorted.begin(), sorted.end());
  if (!sorted.empty() && sorted.back() >= count) {
    fail(own, "names vertex " + std::to_string(sorted.back()) + "; expected below " +
                  std::to_string(count));
  }
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) {
    fail(own, "names vertex " + std::to_string(*twice) +
                  " more than once; expected distinct neighbours");
  }
  if (std::any_of(end, row.end(), [own](uint32_t id) { return id != own; })) {
    fail(own,
         "has neighbours after its own id; expected that only to fill the end of the row; drop "
         "edges from a vertex to itself");
  }
}

}  // namespace

void check_graph(const GraphView& graph, uint64_t count, Monitor& monitor) {
  if (graph.degree < kMinDegree || graph.degree > kMaxDegree) {
    throw Error::invalid("graph: got rows of " + std::to_string(graph.degree) + "; expected " +
                         std::to_string(kMinDegree) + " to " + std::to_string(kMaxDegree) +
                         " neighbours");
  }
  if (count > 0 && graph.entry && *graph.entry >= count) {
    throw Error::invalid("entry: got " + std::to_string(*graph.entry) + "; expected below " +
                         std::to_string(count));
  }
  std::vector<uint32_t> sorted;
  for (uint64_t vertex = 0; vertex < count; ++vertex) {
    if (vertex % kPollEvery == 0) monitor.check();
    const std::span row(graph.rows + vertex * graph.degree, graph.degree);
    check_row(row, static_cast<uint32_t>(vertex), count, sorted);
  }
}

}  // namespace bigrain
