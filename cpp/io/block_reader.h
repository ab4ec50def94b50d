// SPDX-License-Identifier: Apache-2.0
// Many reads of one file at a time: submitted in bunches, taken as they complete.
//
// A reader belongs to one thread at a time. It may be handed to another while nothing is in flight,
// at the price of a new ring: best made by the thread that will use it, and kept (making one costs
// 20 us and up to 340 us per MiB of arena, bench/LOG.md).
// After fork() the child's copy is dead: every call but the destructor throws Error(io), and the
// child makes a reader of its own from the same BlockFile.
//
// Reads end in memory that the reader owns. Its destructor waits for what is in flight, so that no
// buffer is freed under a device that writes to it; where waiting fails the memory is leaked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "io/arena.h"

namespace bigrain::io {

// The unit of offsets, sizes and addresses of reads: the page of index files, and a multiple of
// every logical block size in use (512 or 4,096).
inline constexpr uint32_t kBlock = 4096;

struct BlockRead {
  uint64_t offset = 0;  // a multiple of kBlock, as are `bytes` and the place of `to` in the arena
  uint32_t bytes = 0;   // at most kMaxRead
  std::byte* to = nullptr;  // within the reader's arena
  uint64_t tag = 0;         // comes back with the answer
};

// Linux moves at most 2^31 - 4096 bytes a call.
inline constexpr uint32_t kMaxRead = uint32_t{1} << 30;

struct BlockDone {
  uint64_t tag = 0;
  // Bytes read, fewer than asked only at the end of the file; or -errno. What was interrupted, or
  // transferred in part, has been asked for again.
  int32_t result = 0;
};

struct ReadCounts {
  uint64_t reads = 0;       // submitted
  uint64_t bytes = 0;       // asked for by them
  uint64_t again = 0;       // transfers repeated or continued
  uint64_t failures = 0;    // answers below 0
  uint64_t virtual_ns = 0;  // the clock of a simulated device in virtual time
};

class BlockReader {
 public:
  virtual ~BlockReader() = default;
  BlockReader(const BlockReader&) = delete;
  BlockReader& operator=(const BlockReader&) = delete;

  // Starts all of them. More than depth() in flight, or a read that breaks the rules above, is an
  // Error(invalid_argument), and none of them is started. Where the system fails, Error(io): those
  // already started stay in flight.
  void submit(std::span<const BlockRead> reads);
  // Takes answers that are there, in order of completion; does not wait.
  size_t poll(std::span<BlockDone> done);
  // Takes at least one answer, waiting if need be; 0 only where nothing is in flight.
  size_t wait(std::span<BlockDone> done);
  // Waits for all that is in flight and drops the answers. false: it could not be waited for.
  bool drain() noexcept;

  size_t in_flight() const { return in_flight_; }
  size_t depth() const { return depth_; }
  std::span<std::byte> arena() const { return arena_.bytes(); }
  const ReadCounts& counts() const { return counts_; }
  // What must not end before this reader does.
  void keep(std::shared_ptr<const void> owner) { owner_ = std::move(owner); }
  // false in a child of the process that made this reader.
  bool ours() const;
  virtual std::string describe() const = 0;

 protected:
  BlockReader(const std::string& path, size_t depth, size_t arena_bytes);

  virtual void start(std::span<const BlockRead> reads) = 0;
  // Both return how many they put into `done`, which is not empty; something is in flight.
  virtual size_t take(std::span<BlockDone> done) = 0;
  virtual size_t take_waiting(std::span<BlockDone> done) = 0;

  // To be called by the destructor of every final class, while its parts are still alive.
  void finish() noexcept;

  const std::string& path() const { return path_; }
  // start() counts each read that has truly started; poll() and wait() count the answers.
  void count_started() { ++in_flight_; }

  ReadCounts counts_;

 private:
  void check_owner() const;
  void check(const BlockRead& read) const;
  size_t account(std::span<const BlockDone> done);

  std::shared_ptr<const void> owner_;  // first, so that it ends last
  const std::string path_;
  const size_t depth_;
  const uint32_t generation_;
  size_t in_flight_ = 0;
  Arena arena_;
};

// Waits at the end of a scope, however it is left: what uses a reader for a while begins with one,
// so that an exception does not leave reads behind for the next user.
class DrainAtExit {
 public:
  explicit DrainAtExit(BlockReader& reader) : reader_(reader) {}
  ~DrainAtExit() { reader_.drain(); }
  DrainAtExit(const DrainAtExit&) = delete;
  DrainAtExit& operator=(const DrainAtExit&) = delete;

 private:
  BlockReader& reader_;
};

}  // namespace bigrain::io
