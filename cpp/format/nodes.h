// SPDX-License-Identifier: Apache-2.0
// How points lie in pages, so that one read from an SSD brings a point's row and its vector.
//
// A record holds a point's row, its external id if the index has ids, and its vector, as DiskANN's
// does (NeurIPS 2019, section 4). What differs: where a record does not fit one page and would take
// more pages than the vector alone, rows and vectors lie apart (`nodes` and `fulls`), so that no
// vector takes more pages than it must; and every page has a checksum, which begins with its
// number, so that pages that changed places are noticed, too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "format/parts.h"

namespace bigrain::format {

inline constexpr uint64_t kPageBytes = 4'096;

// Records of one size: several to a page, or several pages to one.
struct RecordShape {
  uint64_t count = 0;
  uint32_t bytes = 0;       // of a record
  uint32_t per_page = 1;    // records that begin in a page
  uint32_t pages_each = 1;  // pages that a record touches

  uint64_t pages() const { return (count + per_page - 1) / per_page * pages_each; }
  uint64_t page_of(uint64_t record) const { return record / per_page * pages_each; }
  uint32_t offset_of(uint64_t record) const {
    return static_cast<uint32_t>(record % per_page) * bytes;
  }
};

// Where the parts of a point lie.
struct NodeShape {
  bool has_ids = false;
  bool coupled = true;  // the vector is part of the record
  uint32_t row_bytes = 0, id_offset = 0, vector_offset = 0, vector_bytes = 0;
  RecordShape nodes;
  RecordShape fulls;  // no records where coupled

  uint64_t pages() const { return nodes.pages() + fulls.pages(); }
  uint32_t point_bytes() const {
    return row_bytes + (has_ids ? uint32_t{sizeof(int64_t)} : 0) + vector_bytes;
  }
};

// Any meta data that check_ranges() passes is safe.
NodeShape node_shape(const IndexMeta& meta, bool has_ids);

// The checksum of a page; nodes and fulls are numbered through.
uint32_t page_sum(const std::byte* page, uint64_t number);

// Pages `first` to `first` + out.size() / kPageBytes of nodes (fulls), from arrays. Begins with a
// whole record; what no record fills becomes zero.
void pack_nodes(const NodeShape& shape, const IndexParts& parts, uint64_t first,
                std::span<std::byte> out);
void pack_fulls(const NodeShape& shape, const IndexParts& parts, uint64_t first,
                std::span<std::byte> out);

// The reverse, into those of the arrays graph, ids and vectors that have been allocated. False if
// bytes that no record fills are not zero.
bool unpack_nodes(const NodeShape& shape, std::span<const std::byte> pages, uint64_t first,
                  IndexParts& parts);
bool unpack_fulls(const NodeShape& shape, std::span<const std::byte> pages, uint64_t first,
                  IndexParts& parts);

}  // namespace bigrain::format
