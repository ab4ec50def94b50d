// SPDX-License-Identifier: Apache-2.0
// The graph as a file: rows of R ids in the order of the vectors, padded with the vertex's own id.
// What graph/copies.h and graph/repair.h do to rows in memory is done to these.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "graph/rows.h"
#include "index/disk_build/links.h"
#include "index/disk_build/work_folder.h"
#include "io/file.h"
#include "util/monitor.h"

namespace bigrain::disk_build {

class RowFile final : public graph::RowStore {
 public:
  RowFile(io::File file, uint64_t count, uint32_t degree)
      : file_(std::move(file)), count_(count), degree_(degree), raw_(degree) {}

  uint64_t count() const { return count_; }
  size_t stride() const override { return degree_; }
  // Throws Error(corrupt) where it names a vertex that does not exist.
  void read(uint32_t id, std::vector<uint32_t>& row) const override;
  void assign(uint32_t id, std::span<const uint32_t> neighbours) override;
  // Whole rows [first, first + count), with their padding.
  void read_block(uint64_t first, size_t count, uint32_t* to) const;
  void write_block(uint64_t first, std::span<const uint32_t> rows);
  void sync() { file_.sync(); }

 private:
  io::File file_;
  uint64_t count_;
  uint32_t degree_;
  std::vector<uint32_t> raw_;
};

// "rows" (links.h) in order, as "graph".
RowFile order_rows(const LinkJob& job, WorkFolder& work, Monitor& monitor);

// As graph::attach_copies, for those in "followers".
void attach_followers(const LinkJob& job, const WorkFolder& work, RowFile& rows, Monitor& monitor);

// Edges between "hubs", at the head of their rows: shards that no point has in common, as those of
// separate clusters, would otherwise be joined by what repair_rows() finds alone, and searches
// would not find the way (bench/LOG.md, "out-of-core build").
void join_hubs(const LinkJob& job, const WorkFolder& work, RowFile& rows, Monitor& monitor);

// Makes every point reachable from the entry. Where graph/repair.h searches for the nearest reached
// vertices, a point takes one of those that it leads to itself, which were chosen as its nearest.
// `block` rows are read at a time.
void repair_rows(RowFile& rows, uint32_t entry, size_t block, Monitor& monitor);

}  // namespace bigrain::disk_build
