// SPDX-License-Identifier: Apache-2.0
#include "io/simulated_reader.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include "util/rng.h"

namespace bigrain::io {

namespace {

// What is decided by chance about a transfer: a stream of random numbers each.
enum Chance : uint64_t { kError, kShort, kDamage, kBit, kLatency };

// Devices transfer whole sectors; 512 bytes is the smallest in use.
constexpr uint32_t kSector = 512;

// Lies in a buffer until its read is done, so that whoever looks too early sees no vectors.
constexpr int kNotYet = 0xb6;

}  // namespace

uint64_t DeviceQueue::admit(uint64_t now_ns) {
  const std::lock_guard lock(mutex_);
  const uint64_t start = std::max(now_ns, free_at_ns_);
  free_at_ns_ = start + interval_ns_;
  return start;
}

SimulatedReader::SimulatedReader(const File& file, const SimulatedDevice& device,
                                 std::shared_ptr<DeviceQueue> queue, size_t depth,
                                 size_t arena_bytes)
    : BlockReader(file.path(), depth, arena_bytes),
      file_(file),
      device_(device),
      queue_(std::move(queue)) {}

uint64_t SimulatedReader::now_ns() const {
  if (!device_.real_time) return counts_.virtual_ns;
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::nanoseconds(now).count());
}

bool SimulatedReader::happens(double rate, uint64_t number, uint64_t what) const {
  return rate > 0 && Rng(device_.seed ^ mix64(what), number).uniform() < rate;
}

void SimulatedReader::begin(const BlockRead& whole, const ReadProgress& read) {
  const uint64_t number = transfers_begun_++;
  uint64_t latency = device_.latency_ns;
  if (device_.reorder) {
    latency = latency / 2 + Rng(device_.seed ^ mix64(kLatency), number).bounded(latency + 1);
  }
  transfers_.push({queue_->admit(now_ns()) + latency, number, read, whole});
}

void SimulatedReader::start(std::span<const BlockRead> reads) {
  for (const BlockRead& read : reads) {
    std::memset(read.to, kNotYet, read.bytes);
    begin(read, ReadProgress(read));
    count_started();
  }
}

int64_t SimulatedReader::perform(const Transfer& transfer) const {
  const uint64_t number = transfer.number;
  if (happens(device_.error_rate, number, kError)) return -EIO;
  uint32_t bytes = transfer.read.bytes();
  if (happens(device_.short_rate, number, kShort)) {
    bytes = std::max(bytes / 2 / kSector * kSector, kSector);
  }
  return file_.files().pread(file_.descriptor(), transfer.read.to(), bytes, transfer.read.offset());
}

bool SimulatedReader::end(Transfer& transfer, BlockDone* done) {
  if (transfer.read.take(perform(transfer), 1)) {
    ++counts_.again;
    begin(transfer.whole, transfer.read);
    return false;
  }
  *done = transfer.read.answer();
  if (done->result > 0 && happens(device_.damage_rate, transfer.number, kDamage)) {
    const uint64_t bits = static_cast<uint64_t>(done->result) * 8;
    const uint64_t bit = Rng(device_.seed ^ mix64(kBit), transfer.number).bounded(bits);
    transfer.whole.to[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
  }
  return true;
}

size_t SimulatedReader::take(std::span<BlockDone> done) {
  size_t count = 0;
  const uint64_t now = now_ns();
  while (count < done.size() && !transfers_.empty() && transfers_.top().due_ns <= now) {
    Transfer transfer = transfers_.top();
    transfers_.pop();
    count += end(transfer, &done[count]);
  }
  return count;
}

size_t SimulatedReader::take_waiting(std::span<BlockDone> done) {
  while (true) {
    const size_t count = take(done);
    if (count != 0) return count;
    const uint64_t due = transfers_.top().due_ns;
    if (device_.real_time) {
      const uint64_t now = now_ns();
      if (due > now) std::this_thread::sleep_for(std::chrono::nanoseconds(due - now));
    } else {
      counts_.virtual_ns = std::max(counts_.virtual_ns, due);
    }
  }
}

}  // namespace bigrain::io
