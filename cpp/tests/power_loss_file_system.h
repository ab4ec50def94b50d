// SPDX-License-Identifier: Apache-2.0
// A file system in memory that can lose its power: what was not flushed is kept in part, in any
// order, torn between sectors.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/file_system.h"

namespace bigrain::fixture {

class PowerLossFileSystem final : public io::FileSystem {
 public:
  using Bytes = std::vector<std::byte>;
  using Random = std::mt19937_64;

  bool ignore_fsync = false;  // a disk that lies, or a save that forgets: for the control
  std::vector<std::string> calls;

  void put(const std::string& path, Bytes content) {
    auto node = std::make_shared<Node>();
    node->durable = node->visible = std::move(content);
    names_[path] = durable_names_[path] = node;
  }

  // What `path` names after the power comes back: one of many possibilities. Null: nothing.
  std::unique_ptr<Bytes> after_power_loss(const std::string& path, Random& random) const {
    auto names = durable_names_;
    // File systems keep the order of changes to names; how many were written, nobody knows.
    const size_t kept = random() % (pending_names_.size() + 1);
    for (size_t i = 0; i < kept; ++i) apply(pending_names_[i], names);
    const auto found = names.find(path);
    if (found == names.end()) return nullptr;
    return std::make_unique<Bytes>(survivor(*found->second, random));
  }

  // io::FileSystem

  int open(const std::string& path) override {
    const auto found = names_.find(path);
    return found == names_.end() ? -ENOENT : open_node(found->second);
  }
  int open_direct(const std::string&) override { return -EINVAL; }
  int direct_alignment(int) override { return 0; }
  int advise_random(int) override { return 0; }
  int create(const std::string& path, uint32_t) override {
    calls.push_back("create");
    if (names_.contains(path)) return -EEXIST;
    change_names({path, std::make_shared<Node>(), ""});
    return open_node(names_[path]);
  }
  int64_t pread(int fd, void* to, size_t bytes, uint64_t offset) override {
    const Bytes& content = open_[fd]->visible;
    if (offset >= content.size()) return 0;
    const size_t size = std::min(bytes, content.size() - offset);
    std::memcpy(to, content.data() + offset, size);
    return static_cast<int64_t>(size);
  }
  int64_t pwrite(int fd, const void* from, size_t bytes, uint64_t offset) override {
    calls.push_back("pwrite");
    const auto* data = static_cast<const std::byte*>(from);
    Node& node = *open_[fd];
    node.pending.push_back({offset, Bytes(data, data + bytes)});
    write(node.visible, offset, {data, bytes});
    return static_cast<int64_t>(bytes);
  }
  int fsync(int fd) override {
    calls.push_back("fsync");
    if (ignore_fsync) return 0;
    Node& node = *open_[fd];
    node.durable = node.visible;
    node.pending.clear();
    return 0;
  }
  int close(int) override { return 0; }
  int stat(int fd, io::FileInfo* info) override {
    *info = {.size = open_[fd]->visible.size(), .permissions = 0644, .links = 1};
    return 0;
  }
  int stat(const std::string& path, io::FileInfo* info) override {
    const auto found = names_.find(path);
    if (found == names_.end()) return -ENOENT;
    *info = {.size = found->second->visible.size(), .permissions = 0644, .links = 1};
    return 0;
  }
  int read_link(const std::string&, std::string*) override { return -EINVAL; }
  int rename(const std::string& from, const std::string& to) override {
    calls.push_back("rename");
    change_names({to, names_[from], from});
    return 0;
  }
  int unlink(const std::string& path) override {
    calls.push_back("unlink");
    change_names({"", nullptr, path});
    return 0;
  }
  int try_lock(int) override { return 0; }
  int sync_directory(const std::string&) override {
    calls.push_back("sync_directory");
    durable_names_ = names_;
    pending_names_.clear();
    return 0;
  }
  int make_directory(const std::string&) override { return -ENOTSUP; }
  int remove_directory(const std::string&) override { return -ENOTSUP; }
  int free_bytes(const std::string&, uint64_t* bytes) override {
    *bytes = UINT64_MAX;
    return 0;
  }
  int list(const std::string&, std::vector<std::string>* names) override {
    for (const auto& [name, node] : names_) names->push_back(name.substr(name.rfind('/') + 1));
    return 0;
  }

 private:
  static constexpr size_t kSector = 512;

  struct Write {
    uint64_t offset;
    Bytes data;
  };
  struct Node {
    Bytes durable, visible;
    std::vector<Write> pending;
  };
  using Names = std::map<std::string, std::shared_ptr<Node>>;
  struct NameChange {  // `added` names `node`; `removed` is gone; either may be empty
    std::string added;
    std::shared_ptr<Node> node;
    std::string removed;
  };

  static void apply(const NameChange& change, Names& names) {
    if (!change.removed.empty()) names.erase(change.removed);
    if (!change.added.empty()) names[change.added] = change.node;
  }
  void change_names(NameChange change) {
    apply(change, names_);
    pending_names_.push_back(std::move(change));
  }
  int open_node(std::shared_ptr<Node> node) {
    open_[next_] = std::move(node);
    return next_++;
  }
  static void write(Bytes& to, uint64_t offset, std::span<const std::byte> data) {
    if (to.size() < offset + data.size()) to.resize(offset + data.size());
    std::copy(data.begin(), data.end(), to.begin() + static_cast<ptrdiff_t>(offset));
  }
  // Any of the sectors written since the last flush, in any order.
  static Bytes survivor(const Node& node, Random& random) {
    Bytes content = node.durable;
    std::vector<Write> sectors;
    const uint64_t likely = random() % 5;  // none, few, most or all
    for (const Write& each : node.pending) {
      for (size_t at = 0; at < each.data.size(); at += kSector) {
        if (random() % 4 >= likely) continue;
        const auto begin = each.data.begin() + static_cast<ptrdiff_t>(at);
        const size_t size = std::min(kSector, each.data.size() - at);
        sectors.push_back({each.offset + at, Bytes(begin, begin + static_cast<ptrdiff_t>(size))});
      }
    }
    std::shuffle(sectors.begin(), sectors.end(), random);
    for (const Write& each : sectors) write(content, each.offset, each.data);
    return content;
  }

  Names names_, durable_names_;
  std::vector<NameChange> pending_names_;
  std::map<int, std::shared_ptr<Node>> open_;
  int next_ = 3;
};

}  // namespace bigrain::fixture
