// SPDX-License-Identifier: Apache-2.0
// How a long call reports its progress and learns that it should stop.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

namespace bigrain {

// The calling thread polls; worker threads only read `stopped()`. A poll that returns false, or
// throws, stops the call: parallel loops drain and the thread that called them throws
// Error::cancelled() (or the poll's own exception) once no worker runs any more.
class Monitor {
 public:
  // `done` of `total` in units of the call's own choosing (points, queries, bytes).
  using Poll = std::function<bool(uint64_t done, uint64_t total)>;

  Monitor() = default;
  explicit Monitor(Poll poll) : poll_(std::move(poll)) {}

  // Announces the size of the work and resets the count.
  void start(uint64_t total) {
    total_.store(total, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
  }
  // Any thread: `amount` more is done.
  void advance(uint64_t amount) { done_.fetch_add(amount, std::memory_order_relaxed); }
  // Any thread.
  bool stopped() const { return stopped_.load(std::memory_order_relaxed); }

  // Calling thread only. Polls if the last poll is at least 40 ms old (a Ctrl-C must be seen within
  // 0.3 s, and a poll takes the GIL); throws Error::cancelled() when told to stop.
  void check();
  // Calling thread only: polls now, whatever the time.
  void check_now();

 private:
  Poll poll_;
  std::atomic<uint64_t> total_{0}, done_{0};
  std::atomic<bool> stopped_{false};
  int64_t last_poll_ns_ = 0;
};

}  // namespace bigrain
