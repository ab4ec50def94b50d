// SPDX-License-Identifier: Apache-2.0
// A device that exists on no machine: any latency and speed, any order, any fault, the same on
// every run. The bytes are those of the file.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <queue>
#include <string>
#include <vector>

#include "io/block_reader.h"
#include "io/file.h"
#include "io/io_choice.h"
#include "io/read_progress.h"

namespace bigrain::io {

// Hands out the moments at which a device starts transfers. Several readers may share one.
class DeviceQueue {
 public:
  explicit DeviceQueue(uint64_t iops) : interval_ns_(iops == 0 ? 0 : 1'000'000'000 / iops) {}
  uint64_t admit(uint64_t now_ns);

 private:
  const uint64_t interval_ns_;
  std::mutex mutex_;
  uint64_t free_at_ns_ = 0;
};

class SimulatedReader final : public BlockReader {
 public:
  // `file` outlives the reader.
  SimulatedReader(const File& file, const SimulatedDevice& device,
                  std::shared_ptr<DeviceQueue> queue, size_t depth, size_t arena_bytes);
  ~SimulatedReader() override { finish(); }
  std::string describe() const override { return "simulated"; }

 private:
  struct Transfer {
    uint64_t due_ns;
    uint64_t number;
    ReadProgress read;
    BlockRead whole;
    bool operator<(const Transfer& other) const {  // the first one due is the greatest
      return due_ns != other.due_ns ? due_ns > other.due_ns : number > other.number;
    }
  };

  void start(std::span<const BlockRead> reads) override;
  size_t take(std::span<BlockDone> done) override;
  size_t take_waiting(std::span<BlockDone> done) override;

  uint64_t now_ns() const;
  void begin(const BlockRead& whole, const ReadProgress& read);
  // true: `transfer` ended the read, and `done` is its answer.
  bool end(Transfer& transfer, BlockDone* done);
  int64_t perform(const Transfer& transfer) const;
  bool happens(double rate, uint64_t number, uint64_t what) const;

  const File& file_;
  const SimulatedDevice device_;
  const std::shared_ptr<DeviceQueue> queue_;
  std::priority_queue<Transfer> transfers_;
  uint64_t transfers_begun_ = 0;
};

}  // namespace bigrain::io
