// SPDX-License-Identifier: Apache-2.0
// A file of known bytes, and reads of it at random that are compared with them.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "format_fixture.h"
#include "io/block_file.h"
#include "util/rng.h"

namespace bigrain::fixture {

inline Bytes scattered(size_t size) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(mix64(i) & 255);
  return bytes;
}

// `size` known bytes in a directory of their own.
class BlockData {
 public:
  explicit BlockData(size_t size) : bytes_(scattered(size)) { write_file(path(), bytes_); }
  std::string path() const { return directory_ / "blocks"; }
  const Bytes& bytes() const { return bytes_; }
  uint64_t blocks() const { return bytes_.size() / io::kBlock; }

  io::BlockFile open(const std::string& choice, const io::IoSystem& system = {}) const {
    return io::BlockFile::open(path(), io::parse_io_choice(choice), system);
  }
  // What a read of `bytes` at `offset` returns.
  uint32_t present(uint64_t offset, uint32_t bytes) const {
    const uint64_t end = std::min<uint64_t>(offset + bytes, bytes_.size());
    return static_cast<uint32_t>(end - std::min(offset, end));
  }
  bool holds(const io::BlockRead& read, int32_t result) const {
    const uint32_t expected = present(read.offset, read.bytes);
    if (result < 0 || static_cast<uint32_t>(result) != expected) return false;
    return expected == 0 || std::memcmp(read.to, bytes_.data() + read.offset, expected) == 0;
  }

 private:
  TemporaryDirectory directory_;
  Bytes bytes_;
};

struct Outcome {
  uint64_t right = 0, errors = 0, wrong = 0;
  std::vector<uint64_t> order;  // tags as they came
};

// `count` reads at random places of 1 to 4 blocks, as many in flight as the reader allows.
class RandomReads {
 public:
  static constexpr uint32_t kMostBlocks = 4;

  RandomReads(const BlockData& data, io::BlockReader& reader, uint64_t seed)
      : data_(data), reader_(reader), rng_(seed), reads_(reader.depth()) {
    for (uint64_t i = 0; i < reader.depth(); ++i) free_.push_back(i);
  }
  static size_t arena_bytes(size_t depth) { return depth * kMostBlocks * io::kBlock; }

  Outcome run(uint64_t count) {
    outcome_ = {};
    uint64_t started = 0;
    std::vector<io::BlockDone> done(reader_.depth());
    while (started < count || reader_.in_flight() != 0) {
      std::vector<io::BlockRead> some;
      const uint64_t most = 1 + rng_.bounded(reader_.depth());
      while (started < count && !free_.empty() && some.size() < most) {
        some.push_back(next());
        ++started;
      }
      reader_.submit(some);
      const size_t room = 1 + rng_.bounded(done.size());
      const std::span<io::BlockDone> taken(done.data(), room);
      const bool full = free_.empty() || started == count;
      note(taken.first(full ? reader_.wait(taken) : reader_.poll(taken)));
    }
    return outcome_;
  }

 private:
  io::BlockRead next() {
    const uint64_t slot = free_.back();
    free_.pop_back();
    const auto blocks = static_cast<uint32_t>(1 + rng_.bounded(kMostBlocks));
    reads_[slot] = {rng_.bounded(data_.blocks() - blocks + 1) * io::kBlock, blocks * io::kBlock,
                    reader_.arena().data() + slot * kMostBlocks * io::kBlock, slot};
    return reads_[slot];
  }

  void note(std::span<const io::BlockDone> done) {
    for (const io::BlockDone& answer : done) {
      const bool right = data_.holds(reads_[answer.tag], answer.result);
      ++(right ? outcome_.right : answer.result < 0 ? outcome_.errors : outcome_.wrong);
      outcome_.order.push_back(answer.tag);
      free_.push_back(answer.tag);
    }
  }

  const BlockData& data_;
  io::BlockReader& reader_;
  Rng rng_;
  std::vector<io::BlockRead> reads_;
  std::vector<uint64_t> free_;
  Outcome outcome_;
};

inline Outcome read_at_random(const BlockData& data, const io::BlockFile& file, size_t depth,
                              uint64_t count, uint64_t seed = 1) {
  const auto reader = file.make_reader(depth, RandomReads::arena_bytes(depth));
  return RandomReads(data, *reader, seed).run(count);
}

}  // namespace bigrain::fixture
