// SPDX-License-Identifier: Apache-2.0
// How many dimensions the codes have: decided by measurement on the vectors themselves.
//
// Shorter codes are read faster, and need more candidates to be ranked by full vectors for the same
// recall. Which length wins depends on the spectrum of the data, so it is measured: a few hundred
// points (or the user's queries) look for their 10 nearest neighbours among a sample of points by
// their leading principal components; how deep the true neighbours lie in that order says how many
// candidates must be ranked exactly. Costs are counted in cache lines, which is what a search waits
// for, so the choice is the same on every machine.
#pragma once

#include <cstdint>

#include "bigrain/params.h"
#include "bigrain/types.h"
#include "format/parts.h"
#include "simd/kernels.h"
#include "util/monitor.h"

namespace bigrain {

// Sets parts.meta.code_dim, and what maps vectors to that many dimensions: signs, or scales and
// projection; fills parts.trials if it measured. `wanted`: 0 to measure, else the dimension of the
// codes. parts.mean, meta and vectors must be filled. Deterministic for every number of threads.
void choose_code_dim(IndexParts& parts, uint32_t wanted, const MatrixView& train_queries,
                     const simd::Kernels& kernels, uint32_t threads, Monitor& monitor);

}  // namespace bigrain
