// SPDX-License-Identifier: Apache-2.0
// The power fails at every moment of a save: the path names the complete old or the complete new
// file (RELIABILITY.md, S2).
#include "check.h"
#include "format_fixture.h"
#include "power_loss_file_system.h"

namespace bigrain {
namespace {

using namespace fixture;

constexpr int kStatesPerCall = 120;

struct Outcome {
  int states = 0, old_files = 0, new_files = 0, broken = 0;
};

// Stops the save at the n-th call that changes something.
struct Stop {};

class StoppingFileSystem final : public io::FileSystem {
 public:
  StoppingFileSystem(PowerLossFileSystem& files, size_t calls) : files_(files), calls_(calls) {}

  int open(const std::string& path) override { return files_.open(path); }
  int open_direct(const std::string& path) override { return files_.open_direct(path); }
  int direct_alignment(int fd) override { return files_.direct_alignment(fd); }
  int advise_random(int fd) override { return files_.advise_random(fd); }
  int create(const std::string& path, uint32_t mode) override {
    return next(), files_.create(path, mode);
  }
  int64_t pread(int fd, void* to, size_t bytes, uint64_t offset) override {
    return files_.pread(fd, to, bytes, offset);
  }
  int64_t pwrite(int fd, const void* from, size_t bytes, uint64_t offset) override {
    return next(), files_.pwrite(fd, from, bytes, offset);
  }
  int fsync(int fd) override { return next(), files_.fsync(fd); }
  int close(int fd) override { return files_.close(fd); }
  int stat(int fd, io::FileInfo* info) override { return files_.stat(fd, info); }
  int stat(const std::string& path, io::FileInfo* info) override { return files_.stat(path, info); }
  int read_link(const std::string& path, std::string* target) override {
    return files_.read_link(path, target);
  }
  int rename(const std::string& from, const std::string& to) override {
    return next(), files_.rename(from, to);
  }
  // What clean-up would do does not happen: the power is gone.
  int unlink(const std::string& path) override { return stopped_ ? 0 : files_.unlink(path); }
  int try_lock(int fd) override { return files_.try_lock(fd); }
  int sync_directory(const std::string& path) override {
    return next(), files_.sync_directory(path);
  }
  int make_directory(const std::string& path) override { return files_.make_directory(path); }
  int remove_directory(const std::string& path) override { return files_.remove_directory(path); }
  int free_bytes(const std::string& path, uint64_t* bytes) override {
    return files_.free_bytes(path, bytes);
  }
  int list(const std::string& directory, std::vector<std::string>* names) override {
    return files_.list(directory, names);
  }

  bool stopped() const { return stopped_; }

 private:
  void next() {
    if (calls_-- > 0) return;
    stopped_ = true;
    throw Stop{};
  }

  PowerLossFileSystem& files_;
  size_t calls_;
  bool stopped_ = false;
};

Outcome lose_power_everywhere(bool has_old, bool ignore_fsync) {
  const std::string path = "/folder/index.bigrain";
  const IndexParts old_parts = random_parts({.count = 90, .pq_bytes = 4, .pq_dim = 8}, 1);
  const IndexParts new_parts = random_parts({.count = 120, .pq_bytes = 4, .pq_dim = 8}, 2);
  const Bytes old_bytes = format::serialize(old_parts), new_bytes = format::serialize(new_parts);
  Outcome outcome;
  Random random(3);
  for (size_t call = 0;; ++call) {
    PowerLossFileSystem files;
    files.ignore_fsync = ignore_fsync;
    if (has_old) files.put(path, old_bytes);
    StoppingFileSystem stopping(files, call);
    Monitor monitor;
    try {
      format::save(new_parts, stopping, path, monitor);
    } catch (const Stop&) {
    }
    for (int i = 0; i < kStatesPerCall; ++i) {
      const auto found = files.after_power_loss(path, random);
      ++outcome.states;
      if (found == nullptr ? !has_old : *found == old_bytes && has_old) {
        ++outcome.old_files;
      } else if (found != nullptr && *found == new_bytes) {
        ++outcome.new_files;
      } else {
        ++outcome.broken;
      }
    }
    if (!stopping.stopped()) {
      CHECK(ignore_fsync || outcome.new_files >= kStatesPerCall);
      return outcome;
    }
  }
}

TEST(power_loss_leaves_the_old_or_the_new_file) {
  int states = 0;
  for (const bool has_old : {true, false}) {
    const Outcome outcome = lose_power_everywhere(has_old, false);
    CHECK_EQ(outcome.broken, 0);
    CHECK(outcome.old_files > 0);
    states += outcome.states;
  }
  CHECK(states >= 2'000);
}

TEST(the_model_notices_a_save_that_does_not_flush) {
  CHECK(lose_power_everywhere(true, true).broken > 0);
}

}  // namespace
}  // namespace bigrain
