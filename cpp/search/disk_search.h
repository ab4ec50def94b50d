// SPDX-License-Identifier: Apache-2.0
// Many walks on an SSD: who asks for what, and when.
//
// One query is walked with many reads under way, for the least latency. A batch is walked several
// queries at a time per thread, few reads each: the device has as much to do, and no read is a
// guess. Pipelining single queries under load costs reads (OctopusANN, arXiv 2602.21514).
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "bigrain/types.h"
#include "io/block_file.h"
#include "search/disk_terrain.h"
#include "search/disk_walk.h"
#include "util/monitor.h"

namespace bigrain::search {

struct DiskSearchParams {
  uint32_t k = 10, window = 64;
  uint32_t threads = 0;
  bool deterministic = true;  // see search/disk_walk.h
  uint32_t together = 0;      // queries a thread walks at a time; 0: by the size of the batch
};

// Pages under way per thread, and the most queries that share them.
inline constexpr uint32_t kPagesUnderWay = 32, kMostTogether = 32;

// Readers, kept from call to call; safe for use by several threads. What it is made from is
// borrowed.
class PageReaders {
 public:
  PageReaders(const RecordFile& file, const io::BlockFile& blocks) : file_(file), blocks_(blocks) {}

  std::unique_ptr<PageReader> take();
  // Only readers that nobody waits for.
  void give_back(std::unique_ptr<PageReader> reader);

 private:
  const RecordFile& file_;
  const io::BlockFile& blocks_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<PageReader>> idle_;
};

// ids, distances: k of each per query, as search() in bigrain/index.h; costs: one per query, or
// null. The answers do not depend on the number of threads. Throws Error(io) and Error(corrupt);
// nothing is read any more when it does.
void search_on_disk(const DiskTerrain& terrain, PageReaders& readers, const MatrixView& queries,
                    const DiskSearchParams& params, int64_t* ids, float* distances, DiskCost* costs,
                    Monitor& monitor);

}  // namespace bigrain::search
