// SPDX-License-Identifier: Apache-2.0
// Pages of records of an index file, many at a time, each compared with its checksum before anybody
// looks at it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "format/nodes.h"
#include "io/block_file.h"

namespace bigrain::search {

// Where the records of an index lie in its file. `sums` is borrowed: one per page, of nodes and
// then of fulls.
struct RecordFile {
  format::NodeShape shape;
  uint64_t nodes_at = 0, fulls_at = 0;  // offsets of the sections
  std::span<const uint32_t> sums;
};

enum class RecordKind : uint8_t { node, full };

// Belongs to one thread at a time.
class PageReader {
 public:
  // `slots`: groups of pages that may be asked for at a time; `file` is borrowed.
  PageReader(const RecordFile& file, const io::BlockFile& blocks, size_t slots);

  // Asks for the pages of a record, whose slot is returned. Not more than slots() at a time.
  // Nothing is read before send().
  uint32_t ask(RecordKind kind, uint64_t record, uint32_t owner);
  void send();

  // Waits for at least one slot, unless none is asked for; those that have come, in that order.
  // Throws Error(io) where the device failed and Error(corrupt) where the pages are not those that
  // were written; the reader is of no more use then, and its destructor waits for the rest.
  std::span<const uint32_t> wait();

  uint32_t owner(uint32_t slot) const { return slots_[slot].owner; }
  const std::byte* pages(uint32_t slot) const { return at(slot); }
  uint32_t bytes(uint32_t slot) const { return slots_[slot].bytes; }
  // The slot may be asked for again.
  void release(uint32_t slot) { free_.push_back(slot); }

  size_t slots() const { return slots_.size(); }
  bool is_idle() const { return free_.size() == slots_.size(); }
  // Not in a child of the process that made it.
  bool is_ours() const { return reader_->ours(); }
  size_t memory() const { return reader_->arena().size(); }
  const io::ReadCounts& counts() const { return reader_->counts(); }

 private:
  struct Slot {
    uint64_t page = 0;  // of both sections, numbered through
    uint32_t bytes = 0, owner = 0;
    RecordKind kind = RecordKind::node;
  };

  std::byte* at(uint32_t slot) const;
  void check(uint32_t slot, int32_t result) const;
  std::string place_of(const Slot& read) const;

  const RecordFile& file_;
  std::string path_;
  size_t slot_bytes_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_, arrived_;
  std::vector<io::BlockRead> asked_;
  std::vector<io::BlockDone> done_;
  std::unique_ptr<io::BlockReader> reader_;  // last: it ends before what it may write to
};

}  // namespace bigrain::search
