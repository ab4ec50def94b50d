// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/block_reader.h"
#include "io/file.h"
#include "io/read_progress.h"
#include "io/uring.h"

namespace bigrain::io {

// A ring per reader. Some rings serve the thread that made them alone: a reader that has changed
// hands makes itself a new one.
class UringReader final : public BlockReader {
 public:
  // `file` outlives the reader. Throws Error(io) where the system has no ring for us.
  UringReader(const File& file, UringCalls& calls, uint32_t alignment, size_t depth,
              size_t arena_bytes);
  ~UringReader() override { finish(); }

  // What follows the name of the backend: "deferred, registered file and buffers".
  std::string describe() const override;

 private:
  void start(std::span<const BlockRead> reads) override;
  size_t take(std::span<BlockDone> done) override;
  size_t take_waiting(std::span<BlockDone> done) override;
  void make_ring();
  void push(uint32_t slot);
  // Takes completions that are in the ring. Reads that must go on are submitted again.
  size_t reap(std::span<BlockDone> done);
  void resubmit();
  [[noreturn]] void fail(int error_number) const;

  const File& file_;
  UringCalls& calls_;
  const uint32_t alignment_;
  std::unique_ptr<Ring> ring_;
  uint64_t thread_ = 0;
  std::vector<ReadProgress> slots_;
  std::vector<uint32_t> free_;
  std::vector<uint32_t> again_;    // to be submitted again
  std::vector<BlockDone> failed_;  // what could not be, to be answered
};

}  // namespace bigrain::io
