// SPDX-License-Identifier: Apache-2.0
// What the points of one shard may be linked to, found among the points of that shard, as a file.
//
// A list per member, in the order of places: {place, leader, near, far}, then the places of the
// near ones, nearest first, and of the far ones. A point that follows a leader (graph/copies.h) has
// an empty list. At the end: where the lists of each home begin.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "index/disk_build/budget.h"
#include "index/disk_build/shard.h"
#include "index/disk_build/work_folder.h"
#include "io/stream.h"
#include "simd/kernels.h"
#include "util/monitor.h"

namespace bigrain::disk_build {

struct ListHeader {
  uint32_t place;
  uint32_t leader;  // its place; the point's own if it follows nobody
  uint16_t near, far;
};
static_assert(sizeof(ListHeader) == 12);

struct CandidateParams {
  BuildParams build;
  uint32_t degree;
  float alpha;
  uint32_t dim;    // of codes
  uint32_t entry;  // place where searches start
};

std::string lists_name(size_t shard);

// `places` of the shard's members, and their codes in that order.
void write_candidates(size_t shard, std::span<const uint32_t> places, const Buffer& codes,
                      const Homes& homes, const CandidateParams& params, const Budget& budget,
                      const simd::Kernels& kernels, WorkFolder& work, Monitor& monitor);

// A shard's lists of the points of one home, in the order of places.
class ListReader {
 public:
  ListReader(const WorkFolder& work, size_t shard, size_t shards, size_t home, size_t buffer);
  ListReader(const ListReader&) = delete;
  ListReader& operator=(const ListReader&) = delete;

  // The next list's header; null at the end.
  const ListHeader* peek();
  // Appends that list and goes on.
  void take(std::vector<uint32_t>& near, std::vector<uint32_t>& far);

 private:
  io::File file_;
  uint64_t left_;  // bytes
  io::ReadStream stream_;
  ListHeader header_{};
  bool has_header_ = false;
};

}  // namespace bigrain::disk_build
