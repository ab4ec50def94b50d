// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>

#include "io/file_system.h"

namespace bigrain::io {

namespace {

int result_of(int returned) { return returned < 0 ? -errno : returned; }

FileKind kind_of(mode_t mode) {
  if (S_ISREG(mode)) return FileKind::regular;
  if (S_ISDIR(mode)) return FileKind::directory;
  if (S_ISLNK(mode)) return FileKind::symlink;
  if (S_ISFIFO(mode)) return FileKind::fifo;
  if (S_ISSOCK(mode)) return FileKind::socket;
  return FileKind::device;
}

void fill(const struct stat& from, FileInfo* info) {
  info->kind = kind_of(from.st_mode);
  info->size = from.st_size < 0 ? 0 : static_cast<uint64_t>(from.st_size);
  info->permissions = static_cast<uint32_t>(from.st_mode) & 0777u;
  info->links = static_cast<uint64_t>(from.st_nlink);
#ifdef __APPLE__
  const timespec& modified = from.st_mtimespec;
#else
  const timespec& modified = from.st_mtim;
#endif
  info->modified = static_cast<uint64_t>(modified.tv_sec) * 1'000'000'000u +
                   static_cast<uint64_t>(modified.tv_nsec);
  info->device = static_cast<uint64_t>(from.st_dev);
  info->inode = static_cast<uint64_t>(from.st_ino);
}

class PosixFileSystem final : public FileSystem {
 public:
  int open(const std::string& path) override {
    // O_NONBLOCK: opening a FIFO for reading would otherwise wait for a writer.
    return result_of(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  }

  int open_direct(const std::string& path) override {
#if defined(O_DIRECT)
    return result_of(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_DIRECT));
#elif defined(F_NOCACHE)
    const int fd = open(path);
    if (fd >= 0) ::fcntl(fd, F_NOCACHE, 1);
    return fd;
#else
    return -EINVAL;
#endif
  }

  int direct_alignment(int fd) override {
#if defined(__linux__) && defined(SYS_statx)
    // By the numbers of statx(2): the C library's header knows these fields since glibc 2.37 only.
    constexpr uint32_t kDioAlign = 0x2000;  // the mask's bit, Linux 6.1
    constexpr size_t kMemAlign = 0x98 / 4, kOffsetAlign = 0x9c / 4;
    std::array<uint32_t, 64> answer{};  // struct statx has 256 bytes
    if (::syscall(SYS_statx, fd, "", AT_EMPTY_PATH, kDioAlign, answer.data()) < 0) return -errno;
    if ((answer[0] & kDioAlign) == 0) return 0;
    const uint32_t align = std::max(answer[kMemAlign], answer[kOffsetAlign]);
    return align <= INT_MAX ? static_cast<int>(align) : 0;
#else
    static_cast<void>(fd);
    return 0;
#endif
  }

  int advise_random(int fd) override {
#if defined(POSIX_FADV_RANDOM)
    return -::posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
#else
    static_cast<void>(fd);
    return 0;
#endif
  }

  int create(const std::string& path, uint32_t permissions) override {
    const int fd = result_of(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
                                    static_cast<mode_t>(permissions)));
    // Some network file systems have no locks: saving works there, only the removal of what a
    // killed process left behind does not.
    if (fd >= 0) {
      while (::flock(fd, LOCK_EX) < 0 && errno == EINTR) {
      }
    }
    return fd;
  }

  int64_t pread(int fd, void* to, size_t bytes, uint64_t offset) override {
    const ssize_t got = ::pread(fd, to, bytes, static_cast<off_t>(offset));
    return got < 0 ? -errno : got;
  }

  int64_t pwrite(int fd, const void* from, size_t bytes, uint64_t offset) override {
    const ssize_t put = ::pwrite(fd, from, bytes, static_cast<off_t>(offset));
    return put < 0 ? -errno : put;
  }

  int fsync(int fd) override { return result_of(::fsync(fd)); }
  int close(int fd) override { return result_of(::close(fd)); }

  int stat(int fd, FileInfo* info) override {
    struct stat from{};
    const int returned = result_of(::fstat(fd, &from));
    if (returned >= 0) fill(from, info);
    return returned;
  }

  int stat(const std::string& path, FileInfo* info) override {
    struct stat from{};
    const int returned = result_of(::lstat(path.c_str(), &from));
    if (returned >= 0) fill(from, info);
    return returned;
  }

  int read_link(const std::string& path, std::string* target) override {
    char text[PATH_MAX];
    const ssize_t size = ::readlink(path.c_str(), text, sizeof text);
    if (size < 0) return -errno;
    if (static_cast<size_t>(size) == sizeof text) return -ENAMETOOLONG;
    target->assign(text, static_cast<size_t>(size));
    return 0;
  }

  int rename(const std::string& from, const std::string& to) override {
    return result_of(::rename(from.c_str(), to.c_str()));
  }

  int unlink(const std::string& path) override { return result_of(::unlink(path.c_str())); }

  int try_lock(int fd) override { return result_of(::flock(fd, LOCK_EX | LOCK_NB)); }

  int sync_directory(const std::string& path) override {
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -errno;
    const int returned = result_of(::fsync(fd));
    ::close(fd);
    return returned;
  }

  int list(const std::string& directory, std::vector<std::string>* names) override {
    DIR* stream = ::opendir(directory.c_str());
    if (stream == nullptr) return -errno;
    names->clear();
    errno = 0;
    while (const dirent* entry = ::readdir(stream)) names->emplace_back(entry->d_name);
    const int failure = errno;
    ::closedir(stream);
    return -failure;
  }

  int make_directory(const std::string& path) override {
    return result_of(::mkdir(path.c_str(), 0777));
  }

  int remove_directory(const std::string& path) override {
    return result_of(::rmdir(path.c_str()));
  }

  int free_bytes(const std::string& path, uint64_t* bytes) override {
    struct statvfs from{};
    const int returned = result_of(::statvfs(path.c_str(), &from));
    if (returned >= 0) *bytes = static_cast<uint64_t>(from.f_bavail) * from.f_frsize;
    return returned;
  }
};

}  // namespace

FileSystem& posix() {
  static PosixFileSystem instance;
  return instance;
}

}  // namespace bigrain::io
