// SPDX-License-Identifier: Apache-2.0
// A graph that a caller brings: is it one that searches can walk?
#pragma once

#include <cstdint>

#include "bigrain/params.h"
#include "util/monitor.h"

namespace bigrain {

// Throws Error(invalid_argument), naming the row and what was expected there, unless the graph has
// what the format promises of graphs on `count` points. Polls the monitor; single-threaded.
void check_graph(const GraphView& graph, uint64_t count, Monitor& monitor);

}  // namespace bigrain
