// SPDX-License-Identifier: Apache-2.0
// The order matters: the data must be on the disk before the name points to it, and the name before
// success is reported. A file that a killed process left behind is told from one being written by
// its lock, which dies with its owner; process ids do not tell, as containers reuse them.
#include "io/atomic_save.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <string_view>
#include <vector>

namespace bigrain::io {

namespace {

constexpr int kMaxLinks = 40;     // as Linux's own limit on nested symbolic links
constexpr int kMaxAttempts = 16;  // names are random: one suffices unless someone interferes
constexpr uint32_t kNewFilePermissions = 0666;
// File names may have 255 bytes; the marker, a process id and 16 digits need up to 38.
constexpr size_t kMaxNameInTemporary = 200;
constexpr std::string_view kMarker = ".bigrain-";

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string name_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

struct Target {
  std::string path;
  uint32_t permissions = kNewFilePermissions;
};

// The file that `path` leads to, which need not exist.
Target find_target(FileSystem& files, const std::string& path) {
  Target target{path};
  for (int links = 0; links <= kMaxLinks; ++links) {
    if (name_of(target.path).empty()) {
      throw io_error(target.path.empty() ? ENOENT : EISDIR, "save to", path);
    }
    FileInfo info;
    const int returned = files.stat(target.path, &info);
    if (returned == -ENOENT) return target;
    if (returned < 0) throw io_error(-returned, "save to", path);
    if (info.kind == FileKind::regular) {
      target.permissions = info.permissions;
      return target;
    }
    if (info.kind == FileKind::directory) throw io_error(EISDIR, "save to", path);
    if (info.kind != FileKind::symlink) {
      throw Error::io(EINVAL, path,
                      "cannot save to '" + path + "': it is not a regular file; give a new name");
    }
    std::string next;
    const int read = files.read_link(target.path, &next);
    if (read < 0) throw io_error(-read, "save to", path);
    const bool absolute = !next.empty() && next.front() == '/';
    target.path = absolute ? next : directory_of(target.path) + "/" + next;
  }
  throw io_error(ELOOP, "save to", path);
}

// What the names of all temporary files of one target begin with.
std::string temporary_prefix(const std::string& target) {
  std::string name = name_of(target);
  if (name.size() > kMaxNameInTemporary) {
    size_t size = kMaxNameInTemporary;
    // Some file systems refuse half a UTF-8 sequence.
    while (size > 0 && (static_cast<unsigned char>(name[size]) & 0xC0) == 0x80) --size;
    name.resize(size);
  }
  return "." + name + std::string(kMarker);
}

bool is_temporary(const std::string& name, const std::string& prefix) {
  return name.size() > prefix.size() && name.starts_with(prefix) &&
         name.find_first_not_of("0123456789abcdef-", prefix.size()) == std::string::npos;
}

// Best effort: a leftover costs space, not correctness.
void remove_leftovers(FileSystem& files, const std::string& directory, const std::string& prefix) {
  std::vector<std::string> names;
  if (files.list(directory, &names) < 0) return;
  for (const std::string& name : names) {
    if (!is_temporary(name, prefix)) continue;
    const std::string path = directory + "/" + name;
    const int fd = files.open(path);
    if (fd < 0) continue;
    if (files.try_lock(fd) == 0) files.unlink(path);
    files.close(fd);
  }
}

std::string random_suffix() {
  std::random_device device;
  const uint64_t number = (uint64_t{device()} << 32) | device();
  std::string text = std::to_string(::getpid()) + "-";
  for (int shift = 60; shift >= 0; shift -= 4) text += "0123456789abcdef"[(number >> shift) & 15];
  return text;
}

// Unlinks the temporary file unless it has become the target.
class Removal {
 public:
  Removal(FileSystem& files, const std::string& path) : files_(files), path_(path) {}
  ~Removal() {
    if (armed_) files_.unlink(path_);
  }
  Removal(const Removal&) = delete;
  Removal& operator=(const Removal&) = delete;
  void disarm() { armed_ = false; }

 private:
  FileSystem& files_;
  const std::string path_;
  bool armed_ = true;
};

File create_temporary(FileSystem& files, const std::string& prefix, uint32_t permissions) {
  for (int attempt = 1;; ++attempt) {
    const std::string path = prefix + random_suffix();
    try {
      File file = File::create(files, path, permissions);
      // Another save may have taken the new file for a leftover before it was locked.
      if (file.info().links > 0) return file;
    } catch (const Error& error) {
      if (error.error_number() != EEXIST) {
        files.unlink(path);
        throw;
      }
    }
    if (attempt == kMaxAttempts) throw io_error(EEXIST, "create", path);
  }
}

// Some file systems cannot flush a directory, and some directories may be written but not read;
// there is nothing better to do then.
void sync_directory(FileSystem& files, const std::string& directory) {
  int returned = files.sync_directory(directory);
  while (returned == -EINTR) returned = files.sync_directory(directory);
  if (returned < 0 && returned != -EINVAL && returned != -ENOTSUP && returned != -EACCES) {
    throw io_error(-returned, "flush the directory", directory);
  }
}

}  // namespace

void atomic_save(FileSystem& files, const std::string& path,
                 const std::function<void(File&)>& write) {
  const Target target = find_target(files, path);
  const std::string directory = directory_of(target.path);
  const std::string prefix = temporary_prefix(target.path);
  remove_leftovers(files, directory, prefix);

  File file = create_temporary(files, directory + "/" + prefix, target.permissions);
  Removal removal(files, file.path());
  write(file);
  file.sync();
  // Closed after the renaming: until then its lock keeps other saves from removing it. What close()
  // could report, the flush has reported.
  const int renamed = files.rename(file.path(), target.path);
  if (renamed < 0) throw io_error(-renamed, "save to", path);
  removal.disarm();
  sync_directory(files, directory);
}

}  // namespace bigrain::io
