// SPDX-License-Identifier: Apache-2.0
// A file whose blocks are read many at a time, in the best way that this system allows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "io/block_reader.h"
#include "io/file_system.h"
#include "io/io_choice.h"
#include "io/uring.h"

namespace bigrain::io {

// What of the system is used; tests replace it.
struct IoSystem {
  FileSystem* files = nullptr;  // nullptr: posix()
  UringCalls* uring = nullptr;  // nullptr: kernel_uring()
};

// Cheap to copy: copies are the same open file, which closes with the last of them and of their
// readers. Safe for use by several threads; a child of fork() can go on using it.
class BlockFile {
 public:
  // Opens and tries out: O_DIRECT, else the page cache; io_uring by reading a block, else threads.
  // "uring" is an Error(io) where there is no ring; "auto" falls back and describe() says why.
  static BlockFile open(const std::string& path, const IoChoice& choice = {},
                        const IoSystem& system = {});

  // `depth`: reads in flight at a time, from 1 to kMaxDepth, else Error(invalid_argument).
  std::unique_ptr<BlockReader> make_reader(size_t depth, size_t arena_bytes) const;
  static constexpr size_t kMaxDepth = 4096;

  const std::string& path() const;
  // When it was opened. Whoever opened the path before compares by same_file(): a save may have
  // replaced the file in between.
  const FileInfo& info() const;
  uint64_t size() const { return info().size; }
  bool direct() const;  // past the page cache
  // "io_uring (deferred, registered file, registered buffers), O_DIRECT", or
  // "pread (up to 32 threads), page cache (O_DIRECT: Invalid argument); io_uring_setup: Operation
  // not permitted".
  std::string describe() const;

 private:
  struct State;
  explicit BlockFile(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

}  // namespace bigrain::io
