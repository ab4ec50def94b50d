// SPDX-License-Identifier: Apache-2.0
// How blocks are read: the value of `io=`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bigrain::io {

enum class IoBackend : uint8_t { automatic, uring, pread, simulated };

// A device of one queue: it starts a transfer every 1 / iops seconds at most, each takes `latency`.
// What happens to the n-th transfer of a reader depends on (seed, n) alone.
struct SimulatedDevice {
  uint64_t latency_ns = 100'000;
  uint64_t iops = 0;  // 0: no limit
  uint64_t seed = 1;
  double error_rate = 0;   // of transfers: EIO
  double short_rate = 0;   // of transfers: half the bytes, the rest must be asked for again
  double damage_rate = 0;  // of reads: one bit is wrong
  bool reorder = false;    // latencies from half to one and a half of the mean
  // In virtual time every reader has a device and a clock of its own, which only wait() moves:
  // computing takes no time, and answers come in the same order on every machine. In real time the
  // readers of a file share the device.
  bool real_time = false;
};

struct IoChoice {
  IoBackend backend = IoBackend::automatic;
  bool direct = true;          // try O_DIRECT
  uint32_t pread_threads = 0;  // at most; 0: a default
  SimulatedDevice device;
};

// "auto", "uring", "pread" or "simulated"; options follow a colon:
//   "uring:direct=0", "pread:threads=8,direct=0",
//   "simulated:latency_us=100,iops=40000,seed=1,error_rate=0.01,short_rate=0.01,damage_rate=0.001,
//    reorder=1,clock=real".
// Throws Error(invalid_argument).
IoChoice parse_io_choice(std::string_view text);

}  // namespace bigrain::io
