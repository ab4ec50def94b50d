// SPDX-License-Identifier: Apache-2.0
// Chooses the links of points from candidates, by the codes of all of them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "graph/linker.h"
#include "graph/prune.h"
#include "index/disk_build/candidates.h"
#include "simd/kernels.h"
#include "util/monitor.h"

namespace bigrain::disk_build {

// Candidates of a run of points, one list after the other, as places.
struct Lists {
  std::vector<uint32_t> places;
  std::vector<size_t> starts{0};

  void clear() {
    places.clear();
    starts.assign(1, 0);
  }
  // What was appended since the last one is a list; each place of it once.
  void end_list();
  size_t count() const { return starts.size() - 1; }
  std::span<const uint32_t> list(size_t i) const {
    return std::span(places).subspan(starts[i], starts[i + 1] - starts[i]);
  }
};

inline constexpr uint32_t kNoPlace = 0xffffffffu;

class Chooser {
 public:
  Chooser(const Homes& homes, const io::BucketReader& codes, const CandidateParams& params,
          size_t most_codes, const simd::Kernels& kernels);

  // Rows of places first .. first + near.count() - 1 from their candidates: of `near` the nearest
  // that RobustPrune is offered, and all of `far`. rows: near.count() x degree, filled up with
  // kNoPlace.
  void prune(uint32_t first, const Lists& near, const Lists& far, std::vector<uint32_t>& rows,
             Monitor& monitor);
  // Rows from all of `lists`, nearest first; pruned only where there are more than the degree.
  void finish(uint32_t first, const Lists& lists, std::vector<uint32_t>& rows, Monitor& monitor);

 private:
  using Body = std::function<void(size_t i, graph::LinkWorker& w, uint32_t* row)>;

  // body() for every point, as many at a time as have no more than most_codes_ candidates.
  void run(uint32_t first, std::span<const Lists* const> lists, std::vector<uint32_t>& rows,
           Monitor& monitor, const Body& body);
  size_t mark(uint32_t first, std::span<const Lists* const> lists, size_t begin);
  void score(uint32_t place, std::span<const uint32_t> others, graph::LinkWorker& w) const;
  void choose(graph::LinkWorker& w, uint32_t* row) const;

  const CandidateParams& params_;
  size_t most_codes_;
  simd::ScoreCodesFn score_codes_;
  Gathered gathered_;
  uint32_t threads_;
  std::vector<std::unique_ptr<graph::LinkWorker>> workers_;
};

}  // namespace bigrain::disk_build
