// SPDX-License-Identifier: Apache-2.0
// One lazily started pool per process; no OpenMP, so that no second runtime meets torch's.
// Safe to use in a child after fork(): the child starts a pool of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "util/monitor.h"

namespace bigrain {

// Cores that this process may use: CPU affinity and the cgroup's quota, at least 1.
uint32_t usable_cores();

// 0 means usable_cores(); more than that many threads are honoured as asked, up to 256.
uint32_t resolve_threads(uint32_t requested);

// Calls body(begin, end, worker) over blocks of `grain` indexes until [0, count) is covered.
// `worker` is in [0, threads), distinct among the calls that run at one time: index scratch by it.
// The calling thread takes part and polls `monitor` between blocks, so blocks should last well
// under 0.1 s. Which worker gets a block is not deterministic: results must not depend on it.
// The first exception of any body is rethrown here, after every worker has left. Calls from within
// a body run inline on the calling worker (worker index 0, one thread).
void parallel_for(size_t count, size_t grain, uint32_t threads, Monitor& monitor,
                  const std::function<void(size_t begin, size_t end, uint32_t worker)>& body);

}  // namespace bigrain
