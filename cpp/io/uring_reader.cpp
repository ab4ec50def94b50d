// SPDX-License-Identifier: Apache-2.0
#include "io/uring_reader.h"

#include <cerrno>
#include <numeric>

#include "io/process.h"

namespace bigrain::io {

UringReader::UringReader(const File& file, UringCalls& calls, uint32_t alignment, size_t depth,
                         size_t arena_bytes)
    : BlockReader(file.path(), depth, arena_bytes),
      file_(file),
      calls_(calls),
      alignment_(alignment),
      slots_(depth),
      free_(depth) {
  std::iota(free_.rbegin(), free_.rend(), 0u);
  again_.reserve(depth);
  failed_.reserve(depth);
  make_ring();
}

void UringReader::make_ring() {
  ring_.reset();  // first, as its registered buffer counts against a limit
  ring_ = std::make_unique<Ring>(calls_, static_cast<uint32_t>(depth()));
  ring_->register_file(file_.descriptor());
  if (!arena().empty()) ring_->register_buffer(arena());
  thread_ = thread_number();
}

std::string UringReader::describe() const {
  if (!ring_) return "no ring";
  std::string text;
  if ((ring_->flags() & uring::kSetupDeferTaskrun) != 0) text = "deferred, ";
  if ((ring_->flags() & uring::kSetupCoopTaskrun) != 0) text = "cooperative, ";
  const auto word = [](bool registered) { return registered ? "registered " : "plain "; };
  return text + word(ring_->has_file()) + "file, " + word(ring_->has_buffer()) + "buffers";
}

void UringReader::fail(int error_number) const {
  if (thread_ == thread_number()) throw io_error(error_number, "read", path());
  throw Error::io(
      error_number, path(),
      "cannot read '" + path() +
          "': reads are in flight that another thread submitted; it must wait for them");
}

void UringReader::push(uint32_t slot) {
  const ReadProgress& read = slots_[slot];
  uring::Sqe sqe = {};
  sqe.opcode = ring_->has_buffer() ? uring::kOpReadFixed : uring::kOpRead;
  sqe.flags = ring_->has_file() ? uring::kFixedFile : uint8_t{0};
  sqe.fd = ring_->has_file() ? 0 : file_.descriptor();
  sqe.offset = read.offset();
  sqe.address = reinterpret_cast<uintptr_t>(read.to());
  sqe.length = read.bytes();
  sqe.user_data = slot;
  ring_->push(sqe);
}

void UringReader::start(std::span<const BlockRead> reads) {
  if (!ring_ || (in_flight() == 0 && thread_ != thread_number())) make_ring();
  for (size_t i = 0; i < reads.size(); ++i) {
    const uint32_t slot = free_[free_.size() - 1 - i];
    slots_[slot] = ReadProgress(reads[i]);
    push(slot);
  }
  const Ring::Flushed flushed = ring_->flush(0);
  free_.resize(free_.size() - flushed.taken);
  for (uint32_t i = 0; i < flushed.taken; ++i) count_started();
  if (flushed.error != 0) fail(flushed.error);
}

void UringReader::resubmit() {
  if (again_.empty()) return;
  for (const uint32_t slot : again_) push(slot);
  counts_.again += again_.size();
  const Ring::Flushed flushed = ring_->flush(0);
  for (size_t i = flushed.taken; i < again_.size(); ++i) {
    failed_.push_back({slots_[again_[i]].answer().tag, -flushed.error});
    free_.push_back(again_[i]);
  }
  again_.clear();
}

size_t UringReader::reap(std::span<BlockDone> done) {
  size_t count = 0;
  for (; count < done.size() && !failed_.empty(); failed_.pop_back()) {
    done[count++] = failed_.back();
  }
  uring::Cqe cqe;
  while (count < done.size() && ring_->pop(&cqe)) {
    const uint32_t slot = static_cast<uint32_t>(cqe.user_data);
    if (slots_[slot].take(cqe.result, alignment_)) {
      again_.push_back(slot);
      continue;
    }
    done[count++] = slots_[slot].answer();
    free_.push_back(slot);
  }
  resubmit();
  return count;
}

size_t UringReader::take(std::span<BlockDone> done) {
  const size_t count = reap(done);
  if (count != 0) return count;
  ring_->post_pending();
  return reap(done);
}

size_t UringReader::take_waiting(std::span<BlockDone> done) {
  while (true) {
    const size_t count = take(done);
    if (count != 0) return count;
    if (!failed_.empty()) continue;
    const Ring::Flushed flushed = ring_->flush(1);
    if (flushed.error != 0) fail(flushed.error);
  }
}

}  // namespace bigrain::io
