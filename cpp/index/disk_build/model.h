// SPDX-License-Identifier: Apache-2.0
// What has to be known before a vector can be coded and sent to its shards: mean, rotation or
// projection, R, and the shards' centres.
#pragma once

#include <memory>

#include "bigrain/build_to.h"
#include "format/parts.h"
#include "index/disk_build/budget.h"
#include "index/disk_build/router.h"
#include "index/disk_build/row_reader.h"
#include "index/disk_build/work_folder.h"
#include "simd/kernels.h"
#include "util/monitor.h"

namespace bigrain::disk_build {

struct Model {
  std::unique_ptr<IndexParts> parts;  // meta, with count 0, and what maps vectors to codes
  Router router;
};

// One pass over the vectors, which are checked on the way: the mean of all, and a sample that
// decides the rest. Throws Error(invalid_argument) naming the row that gives no usable distance.
Model learn(RowReader& reader, const BuildParams& params, const Budget& budget,
            const simd::Kernels& kernels, Monitor& monitor);

void save_model(const Model& model, WorkFolder& work);
Model load_model(const WorkFolder& work, const simd::Kernels& kernels);

}  // namespace bigrain::disk_build
