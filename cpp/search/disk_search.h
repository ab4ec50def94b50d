// SPDX-License-Identifier: Apache-2.0
// Many walks on an SSD: who asks for what, and when.
//
// One query is walked with many reads under way, for the least latency. A batch is walked several
// queries at a time per thread, few reads each: the device has as much to do, and no read is a
// guess. Pipelining single queries under load costs reads (OctopusANN, arXiv 2602.21514). If an
// answer shall depend on its query alone, every query has the same few reads under way, which are
// processed in the order in which they were asked for.
#pragma once

#include <cstdint>
#include <limits>

#include "bigrain/index.h"
#include "bigrain/types.h"
#include "io/reader_pool.h"
#include "search/disk_terrain.h"
#include "search/disk_walk.h"
#include "util/monitor.h"

namespace bigrain::search {

struct DiskSearchParams {
  uint32_t k = 10, window = 64;
  float slack = std::numeric_limits<float>::infinity();
  uint32_t threads = 0;
  bool deterministic = false;
  uint32_t reads = 0;  // under way per query, at all times; 0: as above
};

// As Index::search. Throws Error(io) and Error(corrupt); nothing is read any more when it does.
void search_on_disk(const DiskTerrain& terrain, io::ReaderPool& readers, const MatrixView& queries,
                    const DiskSearchParams& params, const SearchOutput& output, Monitor& monitor);

}  // namespace bigrain::search
