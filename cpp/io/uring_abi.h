// SPDX-License-Identifier: Apache-2.0
// The part of the kernel's io_uring interface that a reader of files needs (io_uring_setup(2),
// io_uring_enter(2), io_uring_register(2)). Written out, since wheels are built against headers
// older than io_uring; a test compares it with <linux/io_uring.h> where that is present.
#pragma once

#include <cstdint>

namespace bigrain::io::uring {

// System call numbers: the same on every architecture that came after 2.6.39 or joined the common
// table, which is all but alpha.
inline constexpr long kCallSetup = 425, kCallEnter = 426, kCallRegister = 427;

inline constexpr uint64_t kMapRings = 0, kMapSqes = 0x10000000;  // offsets for mmap

inline constexpr uint32_t kSetupCoopTaskrun = 1u << 8;    // Linux 5.19
inline constexpr uint32_t kSetupTaskrunFlag = 1u << 9;    // Linux 5.19
inline constexpr uint32_t kSetupSingleIssuer = 1u << 12;  // Linux 6.0
inline constexpr uint32_t kSetupDeferTaskrun = 1u << 13;  // Linux 6.1

inline constexpr uint32_t kFeatureSingleMmap = 1u << 0;  // Linux 5.4

inline constexpr uint32_t kEnterGetEvents = 1u << 0;
inline constexpr uint32_t kRingTaskrun = 1u << 2;  // completions wait in the kernel

inline constexpr uint32_t kRegisterBuffers = 0, kRegisterFiles = 2;

inline constexpr uint8_t kOpReadFixed = 4, kOpRead = 22;
inline constexpr uint8_t kFixedFile = 1u << 0;

struct Sqe {
  uint8_t opcode;
  uint8_t flags;
  uint16_t ioprio;
  int32_t fd;
  uint64_t offset;
  uint64_t address;
  uint32_t length;
  uint32_t rw_flags;
  uint64_t user_data;
  uint16_t buffer_index;
  uint16_t personality;
  int32_t splice_fd;
  uint64_t unused[2];
};
static_assert(sizeof(Sqe) == 64);

struct Cqe {
  uint64_t user_data;
  int32_t result;
  uint32_t flags;
};
static_assert(sizeof(Cqe) == 16);

struct SubmissionOffsets {
  uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, reserved1;
  uint64_t reserved2;
};

struct CompletionOffsets {
  uint32_t head, tail, ring_mask, ring_entries, overflow, cqes, flags, reserved1;
  uint64_t reserved2;
};

struct Params {
  uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd;
  uint32_t reserved[3];
  SubmissionOffsets sq;
  CompletionOffsets cq;
};
static_assert(sizeof(Params) == 120);

}  // namespace bigrain::io::uring
