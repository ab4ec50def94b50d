// SPDX-License-Identifier: Apache-2.0
// Reads in parallel without the kernel's help: threads that wait in pread() for others.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "io/block_reader.h"
#include "io/file.h"

namespace bigrain::io {

// Answers on their way from the threads of a pool to one reader.
class Answers {
 public:
  // At most `most` at a time: put() allocates nothing, and so cannot fail on a thread of the pool.
  explicit Answers(size_t most) : ring_(most) {}

  // `again`: transfers that had to be repeated or continued for it.
  void put(BlockDone answer, uint64_t again);
  // Moves up to done.size() answers, oldest first; waits for one if told to.
  size_t take(std::span<BlockDone> done, bool wait, uint64_t* again);

 private:
  std::mutex mutex_;
  std::condition_variable there_;
  std::vector<BlockDone> ring_;
  size_t first_ = 0;
  std::atomic<size_t> count_{0};  // also looked at without the lock
  uint64_t again_ = 0;
};

// The threads of one file, shared by its readers. They start as they are needed and end with the
// pool. Not util/thread_pool: its threads are for computing, and these mostly sleep.
class PreadPool {
 public:
  // `file` outlives the pool. At most `threads` threads.
  PreadPool(const File& file, uint32_t alignment, uint32_t threads);
  // No reader may have reads in flight.
  ~PreadPool();
  PreadPool(const PreadPool&) = delete;
  PreadPool& operator=(const PreadPool&) = delete;

  // All or, where memory for the list is short (std::bad_alloc), none. Where the system gives no
  // thread at all, reads are done before this returns.
  void submit(std::span<const BlockRead> reads, Answers& to);

 private:
  struct Job {
    BlockRead read;
    Answers* to;
  };
  void start_threads();
  bool start_thread();
  void serve();
  void perform(const Job& job) const;

  const File& file_;
  const uint32_t alignment_, most_;
  std::mutex mutex_;
  std::condition_variable work_;
  std::deque<Job> jobs_;
  std::vector<std::thread> threads_;
  size_t idle_ = 0;
  bool ending_ = false;
};

class PreadReader final : public BlockReader {
 public:
  // `pool` outlives the reader.
  PreadReader(const std::string& path, PreadPool& pool, size_t depth, size_t arena_bytes)
      : BlockReader(path, depth, arena_bytes), pool_(pool), answers_(new Answers(depth)) {}
  ~PreadReader() override;
  std::string describe() const override { return "pread"; }

 private:
  void start(std::span<const BlockRead> reads) override;
  size_t take(std::span<BlockDone> done) override;
  size_t take_waiting(std::span<BlockDone> done) override;

  PreadPool& pool_;
  std::unique_ptr<Answers> answers_;
};

}  // namespace bigrain::io
