// SPDX-License-Identifier: Apache-2.0
// Makes of a built index one that an SSD serves well: PQ codes, neighbours on one page, and a list
// of the points whose rows are worth memory.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "format/parts.h"
#include "util/monitor.h"

namespace bigrain {

// All three of the below, in this order. The same bytes for every number of threads.
void prepare_disk(IndexParts& parts, uint32_t pq_bytes, uint32_t threads, Monitor& monitor);

// Numbers the points anew so that neighbours share pages (graph/page_order.h). An index without
// external ids gets them: the old numbers. Does nothing where a page holds one record.
void order_for_pages(IndexParts& parts, Monitor& monitor);

// The order that it gives them; empty where it does nothing.
std::vector<uint32_t> page_numbers(const IndexParts& parts, Monitor& monitor);

// order[i]: the point that becomes number i. Drops hot points, and the fast layout's blocks.
// Changes nothing where it throws.
void renumber(IndexParts& parts, std::span<const uint32_t> order);

// Fills parts.hot: points that walks expand most often, most often first.
void choose_hot(IndexParts& parts, uint32_t threads, Monitor& monitor);

}  // namespace bigrain
