// SPDX-License-Identifier: Apache-2.0
// The folder of one build: its files, and a manifest of what is done, so that a killed build can go
// on.
//
// The manifest is text: a line per parameter of the build and per finished step, and a checksum. It
// is replaced atomically, after the step's files are on the disk.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/file.h"
#include "io/file_system.h"
#include "util/buffer.h"

namespace bigrain::disk_build {

// What makes two calls the same build: names and values, in order.
using Identity = std::vector<std::pair<std::string, std::string>>;

class WorkFolder {
 public:
  // Makes the folder, or takes it over. Throws Error(invalid_argument) where it is in use, or where
  // it belongs to a build of another identity; with `clean` that one's files are removed.
  WorkFolder(io::FileSystem& files, const std::string& path, const Identity& identity, bool clean);
  ~WorkFolder();
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;

  // The value that a finished step left, if it is finished.
  std::optional<uint64_t> done(const std::string& step) const;
  void set_done(const std::string& step, uint64_t value = 0);

  io::File create(const std::string& name);  // replaces
  io::File open(const std::string& name) const;
  void remove(const std::string& name);
  // A small file with a checksum, as a whole.
  void save_blob(const std::string& name, std::span<const std::byte> bytes);
  Buffer load_blob(const std::string& name) const;
  // Every file of ours, and the folder if nothing else is in it.
  void remove_all();
  const std::string& path() const { return path_; }
  uint64_t used_bytes() const;

 private:
  std::string path_of(const std::string& name) const { return path_ + "/" + name; }
  void lock();
  void load(const Identity& identity);
  void save();

  io::FileSystem& files_;
  std::string path_;
  Identity identity_;
  std::map<std::string, uint64_t> steps_;
  int lock_ = -1;
};

}  // namespace bigrain::disk_build
