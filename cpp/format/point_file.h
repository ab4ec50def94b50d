// SPDX-License-Identifier: Apache-2.0
// The points of an index file, read page by page while it is searched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "format/nodes.h"
#include "io/block_reader.h"
#include "util/buffer.h"

namespace bigrain::format {

// Which pages hold a point, or its vector.
struct PagePlace {
  uint64_t page = 0;     // of those that have sums
  uint32_t pages = 1;    // so many
  uint32_t in_page = 0;  // where the record begins in the first

  uint32_t bytes() const { return pages * static_cast<uint32_t>(kPageBytes); }
};

// Where they lie and whether what was read is what was written; reading itself is the caller's.
// Immutable; shared by threads, each with a reader of its own.
class PointFile {
 public:
  // `nodes_offset`, `fulls_offset`: of the sections; `sums`: a uint32 per page.
  PointFile(std::string path, const NodeShape& shape, uint64_t nodes_offset, uint64_t fulls_offset,
            Buffer sums);

  const NodeShape& shape() const { return shape_; }
  size_t bytes_in_memory() const { return sums_.size(); }

  // The record of a point: its row, its id, and its vector where coupled.
  PagePlace node(uint64_t point) const;
  // What holds its vector: the record, or a place of its own.
  PagePlace vector(uint64_t point) const { return shape_.coupled ? node(point) : full(point); }
  // From the start of the record to the vector.
  uint32_t vector_offset() const { return shape_.vector_offset; }

  io::BlockRead read_of(const PagePlace& place, std::byte* to, uint64_t tag) const;
  // What a read brought: throws Error(io) where it failed, Error(corrupt) where the file has become
  // shorter or a page is not what was written.
  void check(const PagePlace& place, const std::byte* pages, int32_t result) const;

 private:
  PagePlace full(uint64_t point) const;
  uint64_t offset_of(uint64_t page) const;

  std::string path_;
  NodeShape shape_;
  uint64_t nodes_offset_, fulls_offset_;
  Buffer sums_;
};

}  // namespace bigrain::format
