// SPDX-License-Identifier: Apache-2.0
// Pages of records of an index file, many at a time, each compared with its checksum before anybody
// looks at it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "format/point_file.h"
#include "io/reader_pool.h"

namespace bigrain::search {

// What is read of a point: its record, or its vector where that lies apart.
enum class RecordKind : uint8_t { node, vector };

// Belongs to one thread at a time. `points` and `readers` are borrowed.
class PageReader {
 public:
  // `slots`: how many records may be asked for at a time.
  PageReader(const format::PointFile& points, io::ReaderPool& readers, size_t slots);

  // Asks for the pages of a point, whose slot is returned. Nothing is read before send().
  uint32_t ask(RecordKind kind, uint32_t point, uint32_t owner);
  void send();

  // Waits for at least one slot, unless none is asked for; those that have come, in that order.
  // Throws Error(io) where the device failed and Error(corrupt) where the pages are not those that
  // were written; the reader is of no more use then, and its destructor waits for the rest.
  std::span<const uint32_t> wait();

  uint32_t owner(uint32_t slot) const { return slots_[slot].owner; }
  const std::byte* pages(uint32_t slot) const { return at(slot); }
  // The slot may be asked for again.
  void release(uint32_t slot) { free_.push_back(slot); }
  size_t slots() const { return slots_.size(); }

 private:
  struct Slot {
    format::PagePlace place;
    uint32_t owner = 0;
  };

  std::byte* at(uint32_t slot) const { return reader_->arena().data() + slot * slot_bytes_; }

  const format::PointFile& points_;
  size_t slot_bytes_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_, arrived_;
  std::vector<io::BlockRead> asked_;
  std::vector<io::BlockDone> done_;
  io::ReaderPool::Loan reader_;  // which waits for what is under way before it goes back
};

}  // namespace bigrain::search
