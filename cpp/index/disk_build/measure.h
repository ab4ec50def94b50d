// SPDX-License-Identifier: Apache-2.0
// What a finished graph tells: when exact ranking may stop, and whose rows are worth memory.
#pragma once

#include <cstddef>
#include <vector>

#include "format/parts.h"
#include "index/disk_build/row_file.h"
#include "index/disk_build/row_reader.h"
#include "simd/kernels.h"
#include "util/monitor.h"

namespace bigrain::disk_build {

// quant::fit_score_bound on the points that it would take, and their neighbours, as many as fit
// into `memory`.
void measure_bound(IndexParts& parts, RowReader& reader, const RowFile& rows, size_t memory,
                   const simd::Kernels& kernels, Monitor& monitor);

// Fills parts.hot. A build in memory counts whom walks expand; here it is whom most rows name,
// which one pass over the rows tells.
void choose_hot_rows(IndexParts& parts, const RowFile& rows, size_t block, Monitor& monitor);

}  // namespace bigrain::disk_build
