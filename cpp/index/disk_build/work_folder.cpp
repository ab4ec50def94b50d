// SPDX-License-Identifier: Apache-2.0
#include "index/disk_build/work_folder.h"

#include <algorithm>
#include <cerrno>
#include <sstream>
#include <string_view>

#include "io/atomic_save.h"
#include "util/crc32c.h"

namespace bigrain::disk_build {

namespace {

constexpr std::string_view kFirstLine = "bigrain build 1\n";
constexpr const char* kManifest = "manifest";
constexpr const char* kLock = "lock";
// Files of a build have names that begin so; others in the folder are left alone.
constexpr std::string_view kPrefix = "part-";
constexpr std::string_view kTemporary = ".manifest.bigrain-";  // io/atomic_save.h
constexpr uint32_t kPermissions = 0666;
constexpr size_t kMaxManifest = size_t{1} << 20;

bool is_ours(const std::string& name) {
  return name.starts_with(kPrefix) || name == kManifest || name == kLock ||
         name.starts_with(kTemporary);
}

std::string checksum_line(const std::string& text) {
  std::string line = "crc ";
  line += std::to_string(crc32c(text.data(), text.size()));
  return line + "\n";
}

// Lines "<kind> <name> <value>"; the value goes to the end of the line.
struct Line {
  std::string kind, name, value;
};

std::vector<Line> parse(const std::string& text) {
  std::vector<Line> lines;
  std::istringstream stream(text);
  std::string line;
  while (std::getline(stream, line)) {
    const size_t first = line.find(' ');
    const size_t second = first == line.npos ? line.npos : line.find(' ', first + 1);
    if (second == line.npos) continue;
    lines.push_back({line.substr(0, first), line.substr(first + 1, second - first - 1),
                     line.substr(second + 1)});
  }
  return lines;
}

}  // namespace

WorkFolder::WorkFolder(io::FileSystem& files, const std::string& path, const Identity& identity,
                       bool clean)
    : files_(files), path_(path), identity_(identity) {
  const int made = files_.make_directory(path_);
  if (made < 0 && made != -EEXIST) throw io::io_error(-made, "make the folder", path_);
  lock();
  if (clean) {
    std::vector<std::string> names;
    files_.list(path_, &names);
    for (const std::string& name : names) {
      if (is_ours(name) && name != kLock) files_.unlink(path_of(name));
    }
  }
  try {
    load(identity);
  } catch (...) {
    files_.close(lock_);
    throw;
  }
}

WorkFolder::~WorkFolder() {
  if (lock_ >= 0) files_.close(lock_);
}

void WorkFolder::lock() {
  lock_ = files_.create(path_of(kLock), kPermissions);  // and locks it
  if (lock_ == -EEXIST) {
    lock_ = files_.open(path_of(kLock));
    if (lock_ >= 0 && files_.try_lock(lock_) == -EWOULDBLOCK) {
      files_.close(lock_);
      throw Error::invalid("work folder '" + path_ +
                           "' is in use by a build that is still running; wait for it, or give "
                           "another folder");
    }
  }
  if (lock_ < 0) throw io::io_error(-lock_, "lock", path_of(kLock));
}

void WorkFolder::load(const Identity& identity) {
  io::FileInfo info;
  if (files_.stat(path_of(kManifest), &info) < 0) {
    save();
    return;
  }
  const io::File file = open(kManifest);
  std::string text(std::min<uint64_t>(info.size, kMaxManifest), '\0');
  text.resize(file.read(0, text.data(), text.size()));
  const size_t end = text.rfind("crc ");
  if (!text.starts_with(kFirstLine) || end == text.npos ||
      text.substr(end) != checksum_line(text.substr(0, end))) {
    throw Error::corrupt("'" + path_of(kManifest) + "' is damaged; begin anew with clean");
  }
  std::map<std::string, std::string> theirs;
  for (const Line& line : parse(text.substr(0, end))) {
    if (line.kind == "is") theirs[line.name] = line.value;
    if (line.kind == "done") steps_[line.name] = std::stoull(line.value);
  }
  for (const auto& [name, value] : identity) {
    if (theirs[name] == value) continue;
    throw Error::invalid("work folder '" + path_ + "' holds an unfinished build with " + name +
                         " = " + theirs[name] + ", this one has " + name + " = " + value +
                         "; repeat that call to finish it, or begin anew with clean");
  }
}

void WorkFolder::save() {
  std::string text(kFirstLine);
  for (const auto& [name, value] : identity_) text += "is " + name + " " + value + "\n";
  for (const auto& [step, value] : steps_) {
    text += "done " + step + " " + std::to_string(value) + "\n";
  }
  text += checksum_line(text);
  io::atomic_save(files_, path_of(kManifest),
                  [&](io::File& file) { file.write(0, text.data(), text.size()); });
}

std::optional<uint64_t> WorkFolder::done(const std::string& step) const {
  const auto found = steps_.find(step);
  if (found == steps_.end()) return std::nullopt;
  return found->second;
}

void WorkFolder::set_done(const std::string& step, uint64_t value) {
  steps_[step] = value;
  save();
}

io::File WorkFolder::create(const std::string& name) {
  remove(name);
  return io::File::create(files_, path_of(std::string(kPrefix) + name), kPermissions);
}

io::File WorkFolder::open(const std::string& name) const {
  return io::File::open(files_, path_of(name == kManifest ? name : std::string(kPrefix) + name));
}

void WorkFolder::remove(const std::string& name) {
  const std::string path = path_of(std::string(kPrefix) + name);
  const int returned = files_.unlink(path);
  if (returned < 0 && returned != -ENOENT) throw io::io_error(-returned, "remove", path);
}

void WorkFolder::save_blob(const std::string& name, std::span<const std::byte> bytes) {
  io::File file = create(name);
  const uint32_t crc = crc32c(bytes.data(), bytes.size());
  file.write(0, bytes.data(), bytes.size());
  file.write(bytes.size(), &crc, sizeof crc);
  file.sync();
}

Buffer WorkFolder::load_blob(const std::string& name) const {
  const io::File file = open(name);
  const uint64_t size = file.info().size;
  uint32_t crc = 0;
  Buffer bytes(size < sizeof crc ? 0 : size - sizeof crc);
  if (file.read(0, bytes.data(), bytes.size()) != bytes.size() ||
      file.read(bytes.size(), &crc, sizeof crc) != sizeof crc ||
      crc != crc32c(bytes.data(), bytes.size())) {
    throw Error::corrupt("'" + file.path() + "' is damaged; begin anew with clean");
  }
  return bytes;
}

void WorkFolder::remove_all() {
  std::vector<std::string> names;
  files_.list(path_, &names);
  // The manifest first: what is left without it is no build to go on with.
  files_.unlink(path_of(kManifest));
  for (const std::string& name : names) {
    if (is_ours(name) && name != kLock) files_.unlink(path_of(name));
  }
  files_.unlink(path_of(kLock));
  files_.remove_directory(path_);
}

uint64_t WorkFolder::used_bytes() const {
  std::vector<std::string> names;
  files_.list(path_, &names);
  uint64_t total = 0;
  for (const std::string& name : names) {
    io::FileInfo info;
    if (is_ours(name) && files_.stat(path_of(name), &info) >= 0) total += info.size;
  }
  return total;
}

}  // namespace bigrain::disk_build
