// SPDX-License-Identifier: Apache-2.0
// The pass that codes every vector and sends it to its shards.
#pragma once

#include <cstdint>

#include "index/disk_build/budget.h"
#include "index/disk_build/model.h"
#include "index/disk_build/row_reader.h"
#include "index/disk_build/shard.h"
#include "index/disk_build/work_folder.h"
#include "simd/kernels.h"
#include "util/monitor.h"

namespace bigrain::disk_build {

// Writes the codes of all vectors: with one shard as "records", in the order of the vectors, with
// more as "codes", a bucket file by home, beside "homes" (uint16 per vector), "members", a bucket
// file by shard, "counts" (shard.h) and "hubs": the
// vectors nearest to the centres, and the one where searches start, uint32 each. Returns where
// searches start: the number of the vector. A shard takes `shard_points` at most; who finds it full
// goes to the next nearest.
uint32_t scatter(RowReader& reader, const Model& model, const BuildParams& params,
                 const Budget& budget, const simd::Kernels& kernels, WorkFolder& work,
                 Monitor& monitor);

MemberCounts load_counts(const WorkFolder& work, size_t shards);

}  // namespace bigrain::disk_build
