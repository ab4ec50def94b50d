// SPDX-License-Identifier: Apache-2.0
// The system calls that index files need, one method each, so that tests can record them, fail the
// n-th one or stop the world after it (tests/faulty_file_system.h). io/file.h is the comfortable
// side: it retries, checks and throws.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace bigrain::io {

enum class FileKind : uint8_t { regular, directory, symlink, fifo, socket, device };

struct FileInfo {
  FileKind kind = FileKind::regular;
  uint64_t size = 0;
  uint32_t permissions = 0;  // the lower nine mode bits
  uint64_t modified = 0;     // nanoseconds since 1970
  uint64_t links = 0;        // 0: the open file has been unlinked
  // Together they name a file, whatever its path names by now.
  uint64_t device = 0, inode = 0;

  bool same_file(const FileInfo& other) const {
    return device == other.device && inode == other.inode;
  }
};

// Every method returns a value >= 0, or the negated errno as the kernel reported it; nothing is
// retried here and reads and writes may be short. Safe for use by several threads.
class FileSystem {
 public:
  virtual ~FileSystem() = default;

  // For reading. Never blocks, whatever the path names.
  virtual int open(const std::string& path) = 0;
  // For reading past the page cache: offsets, sizes and addresses of reads must be multiples of
  // direct_alignment(), or reads fail with EINVAL. -EINVAL where the file system cannot.
  virtual int open_direct(const std::string& path) = 0;
  // In bytes; 0: unknown.
  virtual int direct_alignment(int fd) = 0;
  // Tells the page cache that what is read next does not follow what was read.
  virtual int advise_random(int fd) = 0;
  // For writing a file that must not exist, and locks it (see try_lock). O_EXCL.
  virtual int create(const std::string& path, uint32_t permissions) = 0;
  virtual int64_t pread(int fd, void* to, size_t bytes, uint64_t offset) = 0;
  virtual int64_t pwrite(int fd, const void* from, size_t bytes, uint64_t offset) = 0;
  virtual int fsync(int fd) = 0;
  virtual int close(int fd) = 0;
  virtual int stat(int fd, FileInfo* info) = 0;
  // Does not follow a symbolic link at the end of the path.
  virtual int stat(const std::string& path, FileInfo* info) = 0;
  virtual int read_link(const std::string& path, std::string* target) = 0;
  virtual int rename(const std::string& from, const std::string& to) = 0;
  virtual int unlink(const std::string& path) = 0;
  // 0 if no living process holds the lock that create() took; the lock goes with the descriptor.
  virtual int try_lock(int fd) = 0;
  virtual int sync_directory(const std::string& path) = 0;
  virtual int list(const std::string& directory, std::vector<std::string>* names) = 0;
  virtual int make_directory(const std::string& path) = 0;
  virtual int remove_directory(const std::string& path) = 0;
  // Bytes that an unprivileged process may still write to the file system of `path`.
  virtual int free_bytes(const std::string& path, uint64_t* bytes) = 0;
};

// The operating system's own.
FileSystem& posix();

}  // namespace bigrain::io
