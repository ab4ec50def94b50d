// SPDX-License-Identifier: Apache-2.0
#include "io/block_reader.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>

#include "bigrain/error.h"
#include "io/process.h"

namespace bigrain::io {

BlockReader::BlockReader(const std::string& path, size_t depth, size_t arena_bytes)
    : path_(path), depth_(depth), generation_(process_generation()), arena_(arena_bytes) {}

bool BlockReader::ours() const { return generation_ == process_generation(); }

void BlockReader::check_owner() const {
  if (ours()) return;
  throw Error::io(ECHILD, path_,
                  "cannot read '" + path_ +
                      "': the reader was made before fork(); a child process makes its own");
}

void BlockReader::check(const BlockRead& read) const {
  const auto place = reinterpret_cast<uintptr_t>(read.to);
  const auto begin = reinterpret_cast<uintptr_t>(arena().data());
  const bool whole = read.bytes != 0 && read.bytes % kBlock == 0 && read.offset % kBlock == 0;
  if (!whole || read.bytes > kMaxRead || read.offset > uint64_t{INT64_MAX} - kMaxRead) {
    throw Error::invalid("a read of " + std::to_string(read.bytes) + " bytes at " +
                         std::to_string(read.offset) + " of '" + path_ +
                         "': both must be multiples of " + std::to_string(kBlock) +
                         ", and the bytes between 1 block and 2^30");
  }
  const size_t size = arena().size();
  if (place < begin || place - begin > size || read.bytes > size - (place - begin) ||
      (place - begin) % kBlock != 0) {
    throw Error::invalid("a read of '" + path_ + "' does not end in the reader's arena of " +
                         std::to_string(size) + " bytes, at a multiple of " +
                         std::to_string(kBlock));
  }
}

void BlockReader::submit(std::span<const BlockRead> reads) {
  check_owner();
  if (reads.size() > depth_ - in_flight_) {
    throw Error::invalid(std::to_string(in_flight_) + " reads of '" + path_ +
                         "' are in flight and " + std::to_string(reads.size()) +
                         " more were submitted: at most " + std::to_string(depth_));
  }
  for (const BlockRead& read : reads) check(read);
  if (reads.empty()) return;
  const size_t before = in_flight_;
  const auto count = [&] {
    for (size_t i = 0; i < in_flight_ - before; ++i) counts_.bytes += reads[i].bytes;
    counts_.reads += in_flight_ - before;
  };
  try {
    start(reads);
  } catch (...) {
    count();
    throw;
  }
  count();
}

size_t BlockReader::account(std::span<const BlockDone> done) {
  for (const BlockDone& answer : done) counts_.failures += answer.result < 0;
  in_flight_ -= done.size();
  return done.size();
}

size_t BlockReader::poll(std::span<BlockDone> done) {
  check_owner();
  if (in_flight_ == 0 || done.empty()) return 0;
  return account(done.first(take(done)));
}

size_t BlockReader::wait(std::span<BlockDone> done) {
  check_owner();
  if (in_flight_ == 0 || done.empty()) return 0;
  return account(done.first(take_waiting(done)));
}

bool BlockReader::drain() noexcept {
  std::array<BlockDone, 64> dropped;
  try {
    while (in_flight_ != 0) wait(dropped);
  } catch (const std::exception&) {
    return false;
  }
  return true;
}

void BlockReader::finish() noexcept {
  if (ours() && !drain()) arena_.leak();
}

}  // namespace bigrain::io
