// SPDX-License-Identifier: Apache-2.0
// A part of a long call, whose own progress counts as a share of the whole.
#pragma once

#include <algorithm>
#include <cstdint>

#include "util/monitor.h"

namespace bigrain {

class Phase {
 public:
  // The part is worth `share` units of `whole`, which has been started and outlives it.
  Phase(Monitor& whole, uint64_t share)
      : whole_(whole), share_(share), monitor_([this](uint64_t done, uint64_t total) {
          report(done, total);
          whole_.check_now();
          return true;
        }) {}

  // For the part itself, which may start() it several times: only the farthest counts.
  Monitor& monitor() { return monitor_; }
  // The part is done.
  void finish() { report(1, 1); }

 private:
  void report(uint64_t done, uint64_t total) {
    if (total == 0) return;
    const double part = static_cast<double>(std::min(done, total)) / static_cast<double>(total);
    const auto reached = static_cast<uint64_t>(part * static_cast<double>(share_));
    if (reached <= reported_) return;
    whole_.advance(reached - reported_);
    reported_ = reached;
  }

  Monitor& whole_;
  uint64_t share_, reported_ = 0;
  Monitor monitor_;
};

}  // namespace bigrain
