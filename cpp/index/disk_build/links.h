// SPDX-License-Identifier: Apache-2.0
// From candidates to rows, home by home: RobustPrune over what a point met in all of its shards,
// then the edges back.
//
// DiskANN merges shards by a union that is shuffled and cut (NeurIPS 2019, section 3.3, and its
// code); here a point is pruned once, over the candidates of all shards, with all distances: the
// codes of a home's candidates are few, and lie close together on the disk.
#pragma once

#include <string>
#include <vector>

#include "index/disk_build/budget.h"
#include "index/disk_build/candidates.h"
#include "index/disk_build/shard.h"
#include "index/disk_build/work_folder.h"
#include "simd/kernels.h"
#include "util/monitor.h"

namespace bigrain::disk_build {

// What both passes read.
struct LinkJob {
  const CandidateParams& params;
  const MemberCounts& counts;
  const Homes& homes;
  const std::vector<uint32_t>& ids;  // number of the vector, by place
  const Budget& budget;
  const simd::Kernels& kernels;
};

// Places of a point and of who stands for it.
struct Follower {
  uint32_t place, leader;
};

// Reads lists; writes "forward", a row for every place, "edges" by home of their target, and
// "followers".
void link_forward(const LinkJob& job, WorkFolder& work, Monitor& monitor);

// Reads these; writes "rows": records of a vector's number and its row, by bucket_rows().
void link_back(const LinkJob& job, WorkFolder& work, Monitor& monitor);

// Vectors whose rows are put into order at a time.
uint64_t bucket_rows(const LinkJob& job);

}  // namespace bigrain::disk_build
