// SPDX-License-Identifier: Apache-2.0
#include "util/monitor.h"

#include <chrono>

#include "bigrain/error.h"

namespace bigrain {

namespace {

constexpr int64_t kPollIntervalNs = 40'000'000;

int64_t now_ns() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(since).count();
}

}  // namespace

void Monitor::check() {
  if (!poll_) return;
  if (now_ns() - last_poll_ns_ >= kPollIntervalNs) check_now();
}

void Monitor::check_now() {
  if (!poll_) return;
  last_poll_ns_ = now_ns();
  bool keep_going = false;
  try {
    keep_going =
        poll_(done_.load(std::memory_order_relaxed), total_.load(std::memory_order_relaxed));
  } catch (...) {
    stopped_.store(true, std::memory_order_relaxed);
    throw;
  }
  if (!keep_going) {
    stopped_.store(true, std::memory_order_relaxed);
    throw Error::cancelled();
  }
}

}  // namespace bigrain
