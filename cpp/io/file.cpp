// SPDX-License-Identifier: Apache-2.0
#include "io/file.h"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

namespace bigrain::io {

namespace {

// Linux transfers at most 2^31 - 4096 bytes a call; other systems refuse sizes above INT_MAX.
constexpr size_t kMaxTransfer = size_t{1} << 30;

// An interrupted call is made again. close() is the exception: POSIX does not say whether the
// descriptor is gone then, and on Linux it is.
template <class Call>
auto retry(Call call) {
  auto returned = call();
  while (returned == -EINTR) returned = call();
  return returned;
}

const char* words_for(FileKind kind) {
  switch (kind) {
    case FileKind::fifo:
      return "a named pipe";
    case FileKind::socket:
      return "a socket";
    default:
      return "a device";
  }
}

}  // namespace

Error io_error(int error_number, const std::string& action, const std::string& path) {
  return Error::io(
      error_number, path,
      "cannot " + action + " '" + path + "': " + std::generic_category().message(error_number));
}

File File::open(FileSystem& files, const std::string& path) {
  return regular(files, path, retry([&] { return files.open(path); }));
}

File File::open_direct(FileSystem& files, const std::string& path) {
  return regular(files, path, retry([&] { return files.open_direct(path); }));
}

// `fd` may be a negated errno.
File File::regular(FileSystem& files, const std::string& path, int fd) {
  if (fd < 0) throw io_error(-fd, "open", path);
  File file(files, path, fd);
  const FileKind kind = file.info().kind;
  if (kind == FileKind::directory) throw io_error(EISDIR, "open", path);
  if (kind != FileKind::regular) {
    throw Error::corrupt("'" + path + "' is " + words_for(kind) +
                         ", not a regular file: an index cannot be read from it");
  }
  return file;
}

File File::create(FileSystem& files, const std::string& path, uint32_t permissions) {
  const int fd = retry([&] { return files.create(path, permissions); });
  if (fd < 0) throw io_error(-fd, "create", path);
  return File(files, path, fd);
}

File::File(File&& other) noexcept
    : files_(other.files_), path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

File::~File() {
  if (fd_ >= 0) files_->close(fd_);
}

FileInfo File::info() const {
  FileInfo info;
  const int returned = retry([&] { return files_->stat(fd_, &info); });
  if (returned < 0) throw io_error(-returned, "examine", path_);
  return info;
}

size_t File::read(uint64_t offset, void* to, size_t bytes) const {
  size_t done = 0;
  while (done < bytes) {
    const int64_t got = retry([&] {
      return files_->pread(fd_, static_cast<std::byte*>(to) + done,
                           std::min(bytes - done, kMaxTransfer), offset + done);
    });
    if (got < 0) throw io_error(static_cast<int>(-got), "read", path_);
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  return done;
}

void File::write(uint64_t offset, const void* from, size_t bytes) {
  size_t done = 0;
  while (done < bytes) {
    const int64_t put = retry([&] {
      return files_->pwrite(fd_, static_cast<const std::byte*>(from) + done,
                            std::min(bytes - done, kMaxTransfer), offset + done);
    });
    // A write of nothing without a reason would loop for ever.
    if (put <= 0) throw io_error(put < 0 ? static_cast<int>(-put) : EIO, "write", path_);
    done += static_cast<size_t>(put);
  }
}

void File::sync() {
  const int returned = retry([&] { return files_->fsync(fd_); });
  if (returned < 0) throw io_error(-returned, "flush", path_);
}

}  // namespace bigrain::io
