// SPDX-License-Identifier: Apache-2.0
// Many walks on an SSD: who asks for what, and when.
//
// One query is walked with many reads under way, for the least latency. A batch is walked several
// queries at a time per thread, few reads each: the device has as much to do, and no read is a
// guess. Pipelining single queries under load costs reads (OctopusANN, arXiv 2602.21514).
#pragma once

#include <cstdint>

#include "bigrain/index.h"
#include "bigrain/types.h"
#include "io/reader_pool.h"
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

// Queries that share a thread's pages under way, at most.
inline constexpr uint32_t kMostTogether = kPagesUnderWay;

// As Index::search. Answers depend on the number of threads as little as on the device. Throws
// Error(io) and Error(corrupt); nothing is read any more when it does.
void search_on_disk(const DiskTerrain& terrain, io::ReaderPool& readers, const MatrixView& queries,
                    const DiskSearchParams& params, const SearchOutput& output, Monitor& monitor);

}  // namespace bigrain::search
