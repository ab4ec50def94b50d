// SPDX-License-Identifier: Apache-2.0
// One io_uring: its queues in shared memory and the three system calls, without liburing.
//
// "Efficient IO with io_uring" (Axboe, 2019), io_uring_setup(2), io_uring_enter(2): a process
// writes submissions to a ring that it shares with the kernel and takes completions from another.
//
// No more submissions are ever on their way than the completion ring holds, so it cannot overflow.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "io/uring_abi.h"

namespace bigrain::io {

// The system calls, so that tests can refuse or change them. All return a value >= 0 or -errno.
class UringCalls {
 public:
  virtual ~UringCalls() = default;
  virtual int setup(uint32_t entries, uring::Params* params) = 0;
  virtual int enter(int fd, uint32_t submit, uint32_t wait_for, uint32_t flags) = 0;
  virtual int enlist(int fd, uint32_t what, const void* items, uint32_t count) = 0;
  // Sees every submission before the kernel does.
  virtual void prepare(uring::Sqe&) {}
};

// nullptr on systems other than Linux.
UringCalls* kernel_uring();

class Ring {
 public:
  // Tries flags from best to none. Throws Error(io) with the call that failed, without a path.
  Ring(UringCalls& calls, uint32_t entries);
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // Best effort: what is refused is done without.
  void register_file(int fd);
  void register_buffer(std::span<std::byte> buffer);
  bool has_file() const { return has_file_; }
  bool has_buffer() const { return has_buffer_; }
  uint32_t flags() const { return flags_; }

  // Queues one submission; at most `entries` between two calls of flush().
  void push(const uring::Sqe& sqe);
  struct Flushed {
    uint32_t taken = 0;  // submissions that the kernel took, in the order of push()
    int error = 0;       // errno; what was not taken is then forgotten
  };
  // Hands over what was queued and waits until `wait_for` completions are there, or a signal.
  Flushed flush(uint32_t wait_for);
  // Lets the kernel post completions that wait for this thread, if there are any.
  void post_pending();
  bool pop(uring::Cqe* cqe);

 private:
  void map(const uring::Params& params);
  uint32_t* at(uint32_t offset) const {
    return reinterpret_cast<uint32_t*>(rings_.data() + offset);
  }
  int enter(uint32_t submit, uint32_t wait_for);

  UringCalls& calls_;
  const uint32_t generation_;
  int fd_ = -1;
  uint32_t flags_ = 0;
  bool has_file_ = false, has_buffer_ = false;
  std::span<std::byte> rings_, sqes_;
  uint32_t *sq_head_ = nullptr, *sq_tail_ = nullptr, *sq_flags_ = nullptr, *sq_array_ = nullptr;
  uint32_t *cq_head_ = nullptr, *cq_tail_ = nullptr;
  uint32_t sq_mask_ = 0, cq_mask_ = 0, queued_ = 0;
  const uring::Cqe* cqes_ = nullptr;
};

}  // namespace bigrain::io
