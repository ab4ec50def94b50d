// SPDX-License-Identifier: Apache-2.0
// Distances of queries to product-quantized codes, without decoding them.
//
// A query makes one table per sub-vector: its distance to each centroid. The distance to a code is
// the sum of one entry per table, in order (asymmetric distance computation, Jegou et al. 2011).
//
// With 4 bits a table is 16 entries, quantized to 8 bits so that it fits a register (FastScan,
// simd/generic/fast_scan.h): entry e of sub-vector s becomes round((e - low_s) / step), where low_s
// is the table's least entry and step the widest table's range over 255, one step for all tables.
// The integer sums are exact, so a distance is off by at most subs * step / 2, beside the rounding
// of float (scan_error_bound). What differs from faiss: no saturating sums and no 16-bit clipping.
//
// Metrics: l2 sums squared differences, ip negated products; cosine divides the sum of products by
// the norms of query and code, and is 1 where either is zero.
#pragma once

#include <cstdint>
#include <span>

#include "bigrain/types.h"
#include "quant/pq.h"
#include "util/monitor.h"

namespace bigrain::quant {

// tables[(sub * 2^bits) + j]: the entry of centroid j for a query of dim floats; products for
// cosine as for ip.
void fill_tables(const Pq& pq, const float* query, Metric metric, float* tables);

// out: queries.rows x rows distances of float32 queries to codes.
void pq_distances(const Pq& pq, const MatrixView& queries, const uint8_t* codes, size_t rows,
                  Metric metric, float* out, uint32_t threads, Monitor& monitor);

// What quantizing the tables of a 4-bit code may change in a sum of entries: subs * step / 2.
float scan_error_bound(const Pq& pq, const float* query, Metric metric);
void pq_error_bounds(const Pq& pq, const MatrixView& queries, Metric metric, float* out);

}  // namespace bigrain::quant
