// SPDX-License-Identifier: Apache-2.0
#include "io/pread_reader.h"

#include <signal.h>

#include <algorithm>
#include <new>
#include <system_error>
#include <utility>

#include "io/read_progress.h"

namespace bigrain::io {

void Answers::put(BlockDone answer, uint64_t again) {
  // Notified under the lock: once it is free the reader may be gone, and this with it.
  const std::lock_guard lock(mutex_);
  const size_t count = count_.load(std::memory_order_relaxed);
  ring_[(first_ + count) % ring_.size()] = answer;
  count_.store(count + 1, std::memory_order_relaxed);
  again_ += again;
  there_.notify_one();
}

size_t Answers::take(std::span<BlockDone> done, bool wait, uint64_t* again) {
  if (!wait && count_.load(std::memory_order_relaxed) == 0) return 0;
  std::unique_lock lock(mutex_);
  if (wait) there_.wait(lock, [&] { return count_.load(std::memory_order_relaxed) != 0; });
  const size_t there = count_.load(std::memory_order_relaxed);
  const size_t count = std::min(done.size(), there);
  for (size_t i = 0; i < count; ++i) done[i] = ring_[(first_ + i) % ring_.size()];
  first_ = (first_ + count) % ring_.size();
  count_.store(there - count, std::memory_order_relaxed);
  *again += std::exchange(again_, 0);
  return count;
}

PreadPool::PreadPool(const File& file, uint32_t alignment, uint32_t threads)
    : file_(file), alignment_(alignment), most_(threads) {
  threads_.reserve(threads);
}

PreadPool::~PreadPool() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    work_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
}

void PreadPool::submit(std::span<const BlockRead> reads, Answers& to) {
  {
    const std::lock_guard lock(mutex_);
    const size_t before = jobs_.size();
    try {
      for (const BlockRead& read : reads) jobs_.push_back({read, &to});
    } catch (const std::bad_alloc&) {
      jobs_.erase(jobs_.begin() + static_cast<std::ptrdiff_t>(before), jobs_.end());
      throw;
    }
    start_threads();
    for (size_t i = 0; i < std::min(reads.size(), idle_); ++i) work_.notify_one();
    if (!threads_.empty()) return;
    jobs_.clear();
  }
  for (const BlockRead& read : reads) perform({read, &to});
}

void PreadPool::start_threads() {
  while (threads_.size() < most_ && jobs_.size() > idle_ && start_thread()) ++idle_;
}

// Signals stay with the program's own threads. false: the system gives no more threads, and the
// reads are done by those there are.
bool PreadPool::start_thread() {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  bool started = true;
  try {
    threads_.emplace_back([this] { serve(); });
  } catch (const std::system_error&) {
    started = false;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return started;
}

// A thread counts as idle from its start until it has taken its first job.
void PreadPool::serve() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_.wait(lock, [&] { return ending_ || !jobs_.empty(); });
    if (ending_) return;
    const Job job = jobs_.front();
    jobs_.pop_front();
    --idle_;
    lock.unlock();
    perform(job);
    lock.lock();
    ++idle_;
  }
}

void PreadPool::perform(const Job& job) const {
  ReadProgress progress(job.read);
  uint64_t again = 0;
  while (progress.take(
      file_.files().pread(file_.descriptor(), progress.to(), progress.bytes(), progress.offset()),
      alignment_)) {
    ++again;
  }
  job.to->put(progress.answer(), again);
}

PreadReader::~PreadReader() {
  finish();
  // In a child of fork() a lock may be held by a thread that is not there.
  if (!ours()) static_cast<void>(answers_.release());
}

void PreadReader::start(std::span<const BlockRead> reads) {
  pool_.submit(reads, *answers_);
  for (size_t i = 0; i < reads.size(); ++i) count_started();
}

size_t PreadReader::take(std::span<BlockDone> done) {
  return answers_->take(done, false, &counts_.again);
}

size_t PreadReader::take_waiting(std::span<BlockDone> done) {
  return answers_->take(done, true, &counts_.again);
}

}  // namespace bigrain::io
