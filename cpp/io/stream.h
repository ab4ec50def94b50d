// SPDX-License-Identifier: Apache-2.0
// Files that are written, or read, from one end to the other through a buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "io/file.h"
#include "util/buffer.h"

namespace bigrain::io {

class AppendStream {
 public:
  AppendStream(File file, size_t buffer_bytes) : file_(std::move(file)), buffer_(buffer_bytes) {}

  void append(const void* from, size_t bytes);
  // Bytes appended so far.
  uint64_t size() const { return written_ + used_; }
  // Everything is on the disk afterwards.
  void finish();

 private:
  void flush();

  File file_;
  Buffer buffer_;
  size_t used_ = 0;
  uint64_t written_ = 0;
};

// Reads [begin, end) of a file.
class ReadStream {
 public:
  // `file` outlives the stream.
  ReadStream(const File& file, uint64_t begin, uint64_t end, size_t buffer_bytes)
      : file_(&file), position_(begin), end_(end), buffer_(buffer_bytes) {}

  // Throws Error(corrupt) where the file or the range ends first.
  void read(void* to, size_t bytes);

 private:
  const File* file_;
  uint64_t position_, end_;
  Buffer buffer_;
  size_t begin_ = 0, filled_ = 0;
};

}  // namespace bigrain::io
