// SPDX-License-Identifier: Apache-2.0
#include "io/uring.h"

#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "bigrain/error.h"
#include "io/process.h"
#ifdef __linux__
#include <sys/syscall.h>
#endif

namespace bigrain::io {

namespace {

using namespace uring;

// Best first. Deferred work runs when this thread asks for completions, and interrupts it at no
// other time; a cooperative one at its next system call. Before Linux 5.19 neither is known.
constexpr uint32_t kSetups[] = {kSetupSingleIssuer | kSetupDeferTaskrun | kSetupTaskrunFlag,
                                kSetupCoopTaskrun | kSetupTaskrunFlag, 0};
// The kernel refuses submissions while it lacks memory; searches do not wait for ever.
constexpr int kMaxRefused = 1000;

#ifdef __linux__
class KernelUring final : public UringCalls {
 public:
  int setup(uint32_t entries, Params* params) override {
    return result_of(::syscall(kCallSetup, entries, params));
  }
  int enter(int fd, uint32_t submit, uint32_t wait_for, uint32_t flags) override {
    return result_of(::syscall(kCallEnter, fd, submit, wait_for, flags, nullptr, 0));
  }
  int enlist(int fd, uint32_t what, const void* items, uint32_t count) override {
    return result_of(::syscall(kCallRegister, fd, what, items, count));
  }

 private:
  static int result_of(long returned) { return returned < 0 ? -errno : static_cast<int>(returned); }
};
#endif

Error failure(int error_number, const std::string& call) {
  return Error::io(error_number, "", call + ": " + std::generic_category().message(error_number));
}

// Not std::atomic_ref, which libc++ has only since version 19.
uint32_t load(const uint32_t* word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
void store(uint32_t* word, uint32_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

std::span<std::byte> map_ring(int fd, uint64_t what, size_t bytes) {
#ifdef MAP_POPULATE
  constexpr int kFlags = MAP_SHARED | MAP_POPULATE;
#else
  constexpr int kFlags = MAP_SHARED;
#endif
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kFlags, fd, static_cast<off_t>(what));
  if (data == MAP_FAILED) throw failure(errno, "mmap of an io_uring");
#ifdef MADV_DONTFORK
  ::madvise(data, bytes, MADV_DONTFORK);
#endif
  return {static_cast<std::byte*>(data), bytes};
}

}  // namespace

UringCalls* kernel_uring() {
#ifdef __linux__
  static KernelUring instance;
  return &instance;
#else
  return nullptr;
#endif
}

Ring::Ring(UringCalls& calls, uint32_t entries) : calls_(calls), generation_(process_generation()) {
  Params params;
  for (const uint32_t setup : kSetups) {
    params = {};
    params.flags = setup;
    fd_ = calls_.setup(entries, &params);
    if (fd_ != -EINVAL) break;
  }
  if (fd_ < 0) throw failure(-fd_, "io_uring_setup");
  flags_ = params.flags;
  try {
    if ((params.features & kFeatureSingleMmap) == 0) throw failure(ENOSYS, "io_uring before 5.4");
    map(params);
  } catch (...) {
    if (!rings_.empty()) ::munmap(rings_.data(), rings_.size());
    ::close(fd_);
    throw;
  }
}

void Ring::map(const Params& params) {
  const size_t sq_end = params.sq.array + size_t{params.sq_entries} * sizeof(uint32_t);
  const size_t cq_end = params.cq.cqes + size_t{params.cq_entries} * sizeof(Cqe);
  rings_ = map_ring(fd_, kMapRings, std::max(sq_end, cq_end));
  sqes_ = map_ring(fd_, kMapSqes, size_t{params.sq_entries} * sizeof(Sqe));
  sq_head_ = at(params.sq.head);
  sq_tail_ = at(params.sq.tail);
  sq_flags_ = at(params.sq.flags);
  sq_array_ = at(params.sq.array);
  cq_head_ = at(params.cq.head);
  cq_tail_ = at(params.cq.tail);
  sq_mask_ = *at(params.sq.ring_mask);
  cq_mask_ = *at(params.cq.ring_mask);
  cqes_ = reinterpret_cast<const Cqe*>(rings_.data() + params.cq.cqes);
}

Ring::~Ring() {
  // The mappings are not there in a child, and something else may be.
  if (generation_ == process_generation()) {
    ::munmap(sqes_.data(), sqes_.size());
    ::munmap(rings_.data(), rings_.size());
  }
  ::close(fd_);
}

void Ring::register_file(int fd) { has_file_ = calls_.enlist(fd_, kRegisterFiles, &fd, 1) >= 0; }

void Ring::register_buffer(std::span<std::byte> buffer) {
  const iovec item = {buffer.data(), buffer.size()};
  has_buffer_ = calls_.enlist(fd_, kRegisterBuffers, &item, 1) >= 0;
}

void Ring::push(const Sqe& sqe) {
  const uint32_t tail = *sq_tail_;
  Sqe& slot = reinterpret_cast<Sqe*>(sqes_.data())[tail & sq_mask_];
  slot = sqe;
  calls_.prepare(slot);
  sq_array_[tail & sq_mask_] = tail & sq_mask_;
  store(sq_tail_, tail + 1);
  ++queued_;
}

// Asking for completions with every call lets the kernel post what is deferred, and under load
// leaves nothing to be asked for by a call of its own.
int Ring::enter(uint32_t submit, uint32_t wait_for) {
  return calls_.enter(fd_, submit, wait_for, kEnterGetEvents);
}

Ring::Flushed Ring::flush(uint32_t wait_for) {
  Flushed flushed;
  for (int refused = 0; queued_ != 0 || wait_for != 0;) {
    const int returned = enter(queued_, wait_for);
    if (returned > 0) {
      flushed.taken += static_cast<uint32_t>(returned);
      queued_ -= static_cast<uint32_t>(returned);
    }
    // A wait that a signal interrupted ends as well: whoever needs more calls again.
    if (queued_ == 0 && (returned >= 0 || returned == -EINTR)) break;
    const bool none = returned == -EINTR || returned == -EAGAIN || returned == -EBUSY;
    if (returned > 0) continue;
    if ((returned == 0 || none) && ++refused <= kMaxRefused) {
      enter(0, 0);  // completions taken in may free what the kernel lacks
      continue;
    }
    store(sq_tail_, load(sq_head_));
    queued_ = 0;
    flushed.error = returned == 0 ? EAGAIN : -returned;
    break;
  }
  return flushed;
}

void Ring::post_pending() {
  if ((load(sq_flags_) & kRingTaskrun) != 0) enter(0, 0);
}

bool Ring::pop(Cqe* cqe) {
  const uint32_t head = *cq_head_;
  if (head == load(cq_tail_)) return false;
  *cqe = cqes_[head & cq_mask_];
  store(cq_head_, head + 1);
  return true;
}

}  // namespace bigrain::io
