// SPDX-License-Identifier: Apache-2.0
// Persistent helper threads that join jobs.
//
// A job is one parallel_for; it lives on its caller's stack and hangs in a list while it wants
// helpers. The caller takes part in its own job, so a job makes progress however few helpers there
// are and however many threads call at once; a helper joins the oldest job that still has a place.
// Blocks are handed out by one atomic counter per job.
//
// The pool is never destroyed: at exit its helpers sleep in it (or, in a program that exits while a
// search runs, work in it), and a static destructor that joined them could wait for ever, while one
// that did not would pull mutexes from under them. It lives in static storage without a destructor.
//
// After fork() only the forking thread exists in the child, and the pool's mutex may have been held
// by one that does not. The child therefore makes a new pool in the same storage; nothing is
// allocated or freed, and the first parallel_for starts new helpers.
#include "util/thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "bigrain/error.h"
#include "util/cpu_quota.h"

namespace bigrain {

namespace {

using Body = std::function<void(size_t, size_t, uint32_t)>;

// More threads than this share blocks no better, and every one of them has a stack and scratch.
constexpr uint32_t kMaxPoolThreads = 256;
// Monitor polls every 40 ms; waits shorter than half of it keep that pace.
constexpr std::chrono::milliseconds kPollWait{20};

// What this thread is doing for the pool.
struct ThreadState {
  bool in_body = false;
  const Monitor* read_only = nullptr;  // helpers must not poll the monitor of the job they serve
};
thread_local ThreadState thread_state;

struct Job {
  Job(size_t count_, size_t grain_, uint32_t workers_, Monitor& monitor_, const Body& body_)
      : count(count_), grain(grain_), workers(workers_), monitor(monitor_), body(body_) {}

  const size_t count, grain;
  const uint32_t workers;
  Monitor& monitor;
  const Body& body;
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};

  // Guarded by Pool::mutex.
  uint32_t joined = 1;  // the caller is worker 0
  uint32_t active = 0;  // helpers inside
  std::exception_ptr body_error;
  Job* later = nullptr;
  std::condition_variable left;  // active became 0
};

// Runs the body over blocks until none is left. `may_poll`: this thread called parallel_for.
void run_blocks(Job& job, uint32_t worker, bool may_poll) {
  const ThreadState saved = thread_state;
  while (!job.failed.load(std::memory_order_relaxed) && !job.monitor.stopped()) {
    if (may_poll) job.monitor.check();
    const size_t begin = job.next.fetch_add(job.grain, std::memory_order_relaxed);
    if (begin >= job.count) break;
    thread_state = {true, may_poll ? saved.read_only : &job.monitor};
    try {
      job.body(begin, begin + std::min(job.grain, job.count - begin), worker);
    } catch (...) {
      thread_state = saved;
      throw;
    }
    thread_state = saved;
  }
}

class Pool {
 public:
  void run(Job& job) {
    start(job);
    std::exception_ptr poll_error;
    try {
      run_blocks(job, 0, true);
    } catch (...) {
      poll_error = std::current_exception();
      job.failed.store(true, std::memory_order_relaxed);
    }
    finish(job, poll_error);
    // The poll's own exception goes first: bodies that saw the monitor stop may have thrown too.
    if (poll_error) std::rethrow_exception(poll_error);
    if (job.body_error) std::rethrow_exception(job.body_error);
  }

 private:
  // Puts the job into the list and sees to it that there are helpers for it.
  void start(Job& job) {
    std::lock_guard lock(mutex_);
    Job** tail = &jobs_;
    while (*tail != nullptr) tail = &(*tail)->later;
    *tail = &job;
    while (helpers_ + 1 < job.workers && start_helper()) ++helpers_;
    for (uint32_t i = 1; i < job.workers; ++i) work_.notify_one();
  }

  // Takes the job out of the list and waits until no helper is inside.
  void finish(Job& job, std::exception_ptr& poll_error) {
    std::unique_lock lock(mutex_);
    Job** link = &jobs_;
    while (*link != &job) link = &(*link)->later;
    *link = job.later;
    while (job.active != 0) {
      job.left.wait_for(lock, kPollWait);
      if (job.active == 0 || poll_error) continue;
      lock.unlock();  // a poll runs foreign code
      try {
        job.monitor.check();
      } catch (...) {
        poll_error = std::current_exception();
        job.failed.store(true, std::memory_order_relaxed);
      }
      lock.lock();
    }
  }

  // Signals stay with the program's own threads. False where the system gives no more threads: the
  // work is then done by those there are.
  bool start_helper() {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = true;
    try {
      std::thread([this] { help(); }).detach();
    } catch (const std::system_error&) {
      started = false;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return started;
  }

  Job* job_with_place() {
    Job* job = jobs_;
    while (job != nullptr && job->joined == job->workers) job = job->later;
    return job;
  }

  [[noreturn]] void help() {
    std::unique_lock lock(mutex_);
    while (true) {
      Job* job = nullptr;
      work_.wait(lock, [&] { return (job = job_with_place()) != nullptr; });
      const uint32_t worker = job->joined++;
      ++job->active;
      lock.unlock();
      std::exception_ptr error;
      try {
        run_blocks(*job, worker, false);
      } catch (...) {
        error = std::current_exception();
        job->failed.store(true, std::memory_order_relaxed);
      }
      lock.lock();
      if (error && !job->body_error) job->body_error = error;
      error = nullptr;  // the last reference may be the caller's: it must see the object whole
      if (--job->active == 0) job->left.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable work_;
  Job* jobs_ = nullptr;  // oldest first
  uint32_t helpers_ = 0;
};

union PoolStorage {
  PoolStorage() : pool() {}
  ~PoolStorage() {}
  Pool pool;
};
PoolStorage storage;

void renew_pool_in_child() {
  new (&storage.pool) Pool();
  thread_state = {};
}
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, renew_pool_in_child);

// Affinity may change at any time and is cheap to ask; masks grow with the machine.
uint32_t affinity_cores() {
  for (int cpus = 1024; cpus <= (1 << 20); cpus *= 4) {
    cpu_set_t* set = CPU_ALLOC(cpus);
    if (set == nullptr) break;
    const size_t size = CPU_ALLOC_SIZE(cpus);
    const bool known = sched_getaffinity(0, size, set) == 0;
    const int count = known ? CPU_COUNT_S(size, set) : 0;
    CPU_FREE(set);
    if (known) return static_cast<uint32_t>(std::max(count, 1));
  }
  return std::max(std::thread::hardware_concurrency(), 1u);
}

// Quotas are read from files and so only once per process.
uint32_t quota_cores() {
  static std::atomic<uint32_t> known{0};
  uint32_t cores = known.load(std::memory_order_relaxed);
  if (cores == 0) {
    const double quota = cpu_quota("/proc/self/cgroup", "/sys/fs/cgroup");
    cores = static_cast<uint32_t>(std::clamp(std::ceil(quota), 1.0, 1e9));
    known.store(cores, std::memory_order_relaxed);
  }
  return cores;
}

}  // namespace

uint32_t usable_cores() { return std::min(affinity_cores(), quota_cores()); }

uint32_t resolve_threads(uint32_t requested) {
  return std::min(requested == 0 ? usable_cores() : requested, kMaxPoolThreads);
}

void parallel_for(size_t count, size_t grain, uint32_t threads, Monitor& monitor,
                  const std::function<void(size_t begin, size_t end, uint32_t worker)>& body) {
  grain = std::clamp<size_t>(grain, 1, std::max<size_t>(count, 1));
  const size_t blocks = count / grain + (count % grain != 0);
  const size_t wanted = thread_state.in_body ? 1 : std::min(threads, kMaxPoolThreads);
  const uint32_t workers =
      static_cast<uint32_t>(std::clamp<size_t>(wanted, 1, std::max<size_t>(blocks, 1)));
  Job job(count, grain, workers, monitor, body);
  if (workers > 1) {
    storage.pool.run(job);
  } else {
    run_blocks(job, 0, thread_state.read_only != &monitor);
  }
  if (monitor.stopped()) throw Error::cancelled();
}

}  // namespace bigrain
