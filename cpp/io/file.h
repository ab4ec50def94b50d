// SPDX-License-Identifier: Apache-2.0
// One open file: reads and writes are complete or throw, interruptions and short transfers are
// retried, and every error is an Error(io) with errno and path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "bigrain/error.h"
#include "io/file_system.h"

namespace bigrain::io {

// "cannot <action> '<path>': No space left on device", with errno and path attached.
Error io_error(int error_number, const std::string& action, const std::string& path);

class File {
 public:
  // Opens a regular file for reading. A directory is an Error(io) with EISDIR; a FIFO, socket or
  // device is an Error(corrupt) that says so. Nothing blocks.
  static File open(FileSystem& files, const std::string& path);
  // The same past the page cache (FileSystem::open_direct); may fail with EINVAL where open()
  // works.
  static File open_direct(FileSystem& files, const std::string& path);
  // Creates a file that must not exist, for writing, and holds its lock.
  static File create(FileSystem& files, const std::string& path, uint32_t permissions);

  File(File&& other) noexcept;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  File& operator=(File&&) = delete;
  ~File();

  FileInfo info() const;
  // Fewer bytes than asked only at the end of the file.
  size_t read(uint64_t offset, void* to, size_t bytes) const;
  void write(uint64_t offset, const void* from, size_t bytes);
  void sync();

  const std::string& path() const { return path_; }
  FileSystem& files() const { return *files_; }
  int descriptor() const { return fd_; }  // stays the file's own

 private:
  File(FileSystem& files, std::string path, int fd)
      : files_(&files), path_(std::move(path)), fd_(fd) {}
  static File regular(FileSystem& files, const std::string& path, int fd);

  FileSystem* files_;
  std::string path_;
  int fd_;
};

}  // namespace bigrain::io
