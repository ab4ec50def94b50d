// SPDX-License-Identifier: Apache-2.0
// A file system that records its calls and, on request, fails one of them, runs out of space,
// transfers little at a time, is interrupted, or loses its process to SIGKILL.
#pragma once

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "io/file_system.h"

namespace bigrain::fixture {

class FaultyFileSystem final : public io::FileSystem {
 public:
  static constexpr uint64_t kNever = UINT64_MAX;

  // Numbers count calls from 0.
  uint64_t fail_at = kNever;  // this call fails with `error`
  int error = EIO;
  uint64_t kill_before = kNever;      // this call and all later ones do not happen
  bool kill_halfway = false;          // ... but a write at that number stores half of its bytes
  uint64_t disk_full_after = kNever;  // bytes that may still be written
  size_t largest_transfer = SIZE_MAX;
  uint64_t interrupt_every = 0;  // each n-th call fails with EINTR, once

  uint64_t fail_read_every = 0;  // each n-th call of pread fails with `error`
  int refuse_direct = 0;         // open_direct() fails with this errno

  std::vector<std::string> calls;

  ~FaultyFileSystem() override {
    for (const int fd : open_) io::posix().close(fd);  // as the end of a process does
  }

  int open(const std::string& path) override {
    return opened(guarded("open", [&] { return io::posix().open(path); }));
  }
  int open_direct(const std::string& path) override {
    return opened(guarded("open_direct", [&] {
      return refuse_direct != 0 ? -refuse_direct : io::posix().open_direct(path);
    }));
  }
  int direct_alignment(int fd) override {
    return guarded("direct_alignment", [&] { return io::posix().direct_alignment(fd); });
  }
  int advise_random(int fd) override {
    return guarded("advise_random", [&] { return io::posix().advise_random(fd); });
  }
  int create(const std::string& path, uint32_t permissions) override {
    return opened(guarded("create", [&] { return io::posix().create(path, permissions); }));
  }
  int64_t pread(int fd, void* to, size_t bytes, uint64_t offset) override {
    if (fail_read_every != 0 && ++reads_ % fail_read_every == 0) return -error;
    return guarded("pread", [&] {
      return io::posix().pread(fd, to, std::min(bytes, largest_transfer), offset);
    });
  }
  int64_t pwrite(int fd, const void* from, size_t bytes, uint64_t offset) override {
    if (kill_halfway && calls.size() == kill_before) {
      io::posix().pwrite(fd, from, bytes / 2, offset);
    }
    return guarded("pwrite", [&]() -> int64_t {
      if (disk_full_after == 0) return -ENOSPC;
      const size_t size = std::min<uint64_t>({bytes, largest_transfer, disk_full_after});
      const int64_t put = io::posix().pwrite(fd, from, size, offset);
      if (put > 0 && disk_full_after != kNever) disk_full_after -= static_cast<uint64_t>(put);
      return put;
    });
  }
  int fsync(int fd) override {
    return guarded("fsync", [&] { return io::posix().fsync(fd); });
  }
  // A descriptor is gone even when close() reports an error.
  int close(int fd) override {
    open_.erase(fd);
    io::posix().close(fd);
    return guarded("close", [] { return 0; });
  }
  int stat(int fd, io::FileInfo* info) override {
    return guarded("fstat", [&] { return io::posix().stat(fd, info); });
  }
  int stat(const std::string& path, io::FileInfo* info) override {
    return guarded("lstat", [&] { return io::posix().stat(path, info); });
  }
  int read_link(const std::string& path, std::string* target) override {
    return guarded("readlink", [&] { return io::posix().read_link(path, target); });
  }
  int rename(const std::string& from, const std::string& to) override {
    return guarded("rename", [&] { return io::posix().rename(from, to); });
  }
  int unlink(const std::string& path) override {
    return guarded("unlink", [&] { return io::posix().unlink(path); });
  }
  int try_lock(int fd) override {
    return guarded("try_lock", [&] { return io::posix().try_lock(fd); });
  }
  int sync_directory(const std::string& path) override {
    return guarded("sync_directory", [&] { return io::posix().sync_directory(path); });
  }
  int list(const std::string& directory, std::vector<std::string>* names) override {
    return guarded("list", [&] { return io::posix().list(directory, names); });
  }
  int make_directory(const std::string& path) override {
    return guarded("make_directory", [&] { return io::posix().make_directory(path); });
  }
  int remove_directory(const std::string& path) override {
    return guarded("remove_directory", [&] { return io::posix().remove_directory(path); });
  }
  int free_bytes(const std::string& path, uint64_t* bytes) override {
    return guarded("free_bytes", [&] { return io::posix().free_bytes(path, bytes); });
  }

 private:
  template <class Call>
  auto guarded(const char* name, Call call) -> decltype(call()) {
    const uint64_t number = count(name);
    if (number >= kill_before) return -EIO;
    if (number == fail_at) return -error;
    if (interrupt_every != 0 && number % interrupt_every == interrupt_every - 1) return -EINTR;
    return call();
  }

  // Reads come from several threads at a time.
  uint64_t count(const char* name) {
    const std::lock_guard lock(mutex_);
    calls.emplace_back(name);
    return calls.size() - 1;
  }

  int opened(int fd) {
    if (fd >= 0) open_.insert(fd);
    return fd;
  }

  std::set<int> open_;
  std::mutex mutex_;
  std::atomic<uint64_t> reads_{0};
};

}  // namespace bigrain::fixture
