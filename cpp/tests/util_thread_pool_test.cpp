// SPDX-License-Identifier: Apache-2.0
#include "util/thread_pool.h"

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "bigrain/error.h"
#include "check.h"

using namespace bigrain;

namespace {

using Clock = std::chrono::steady_clock;

void pause_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

uint64_t sum_of_squares(size_t count, size_t grain, uint32_t threads) {
  Monitor monitor;
  std::vector<uint64_t> squares(count);
  parallel_for(count, grain, threads, monitor, [&](size_t begin, size_t end, uint32_t) {
    for (size_t i = begin; i < end; ++i) squares[i] += i * i;
  });
  return std::accumulate(squares.begin(), squares.end(), uint64_t{0});
}

uint64_t expected_sum(uint64_t n) { return n == 0 ? 0 : (n - 1) * n * (2 * n - 1) / 6; }

}  // namespace

TEST(every_index_is_visited_once) {
  for (const size_t count : {0, 1, 2, 63, 64, 65, 1000}) {
    for (const size_t grain : {0, 1, 7, 64, 5000}) {
      for (const uint32_t threads : {0u, 1u, 2u, 7u, 300u, 10'000u}) {
        CHECK_EQ(sum_of_squares(count, grain, threads), expected_sum(count));
      }
    }
  }
  CHECK_EQ(sum_of_squares(10, SIZE_MAX, 3), expected_sum(10));
}

TEST(blocks_have_the_size_of_the_grain) {
  Monitor monitor;
  std::atomic<int> full{0}, rest{0};
  parallel_for(103, 10, 4, monitor, [&](size_t begin, size_t end, uint32_t) {
    CHECK_EQ(begin % 10, 0);
    ++(end - begin == 10 ? full : rest);
  });
  CHECK_EQ(full.load(), 10);
  CHECK_EQ(rest.load(), 1);
}

TEST(as_many_threads_as_asked_take_part_with_distinct_workers) {
  constexpr uint32_t kThreads = 9;
  Monitor monitor;
  std::atomic<int> inside[kThreads] = {};
  std::atomic<uint32_t> arrived{0};
  parallel_for(kThreads, 1, kThreads, monitor, [&](size_t, size_t, uint32_t worker) {
    CHECK(worker < kThreads);
    CHECK_EQ(++inside[worker], 1);
    ++arrived;
    const auto give_up = Clock::now() + std::chrono::seconds(30);
    while (arrived < kThreads && Clock::now() < give_up) pause_ms(1);
    --inside[worker];
  });
  CHECK_EQ(arrived.load(), kThreads);
}

TEST(nested_calls_run_inline) {
  Monitor monitor;
  std::atomic<uint64_t> total{0};
  for (const uint32_t threads : {1u, 4u}) {
    parallel_for(16, 1, threads, monitor, [&](size_t, size_t, uint32_t) {
      const auto outer = std::this_thread::get_id();
      parallel_for(10, 1, 8, monitor, [&](size_t begin, size_t, uint32_t worker) {
        CHECK_EQ(worker, 0);
        CHECK(std::this_thread::get_id() == outer);
        total += begin;
      });
    });
  }
  CHECK_EQ(total.load(), 2 * 16 * 45);
}

TEST(exception_of_a_body_reaches_the_caller) {
  for (const uint32_t threads : {1u, 2u, 7u}) {
    for (const size_t bad : {0, 41, 99}) {
      Monitor monitor;
      std::atomic<int> inside{0};
      std::string message;
      try {
        parallel_for(100, 1, threads, monitor, [&](size_t begin, size_t, uint32_t) {
          ++inside;
          if (begin == bad) {
            --inside;
            throw std::out_of_range("block " + std::to_string(begin));
          }
          pause_ms(begin % 16 == 0);
          --inside;
        });
      } catch (const std::out_of_range& error) {
        message = error.what();
      }
      CHECK_EQ(inside.load(), 0);
      CHECK_EQ(message, "block " + std::to_string(bad));
    }
  }
  CHECK_EQ(sum_of_squares(1000, 1, 7), expected_sum(1000));
}

TEST(poll_that_refuses_cancels) {
  for (const uint32_t threads : {1u, 2u, 7u}) {
    Monitor monitor([](uint64_t, uint64_t) { return false; });
    std::atomic<int> blocks{0};
    CHECK_THROWS(parallel_for(100'000, 1, threads, monitor,
                              [&](size_t, size_t, uint32_t) {
                                ++blocks;
                                pause_ms(1);
                              }),
                 ErrorKind::cancelled);
    CHECK(blocks.load() < 1000);
    CHECK(monitor.stopped());
    CHECK_THROWS(parallel_for(1, 1, threads, monitor, [&](size_t, size_t, uint32_t) {}),
                 ErrorKind::cancelled);
  }
}

TEST(poll_is_heard_while_helpers_finish) {
  // The caller's blocks end at once; a helper's lasts until the monitor has stopped.
  std::atomic<bool> helper_inside{false};
  const auto caller = std::this_thread::get_id();
  Monitor monitor([&](uint64_t, uint64_t) -> bool {
    CHECK(std::this_thread::get_id() == caller);
    if (helper_inside) throw std::logic_error("interrupted");
    return true;
  });
  std::string message;
  const auto start = Clock::now();
  try {
    parallel_for(2, 1, 2, monitor, [&](size_t, size_t, uint32_t worker) {
      if (worker == 0) {
        while (!helper_inside) pause_ms(1);
      } else {
        helper_inside = true;
        while (!monitor.stopped()) pause_ms(1);
      }
    });
  } catch (const std::logic_error& error) {
    message = error.what();
  }
  CHECK_EQ(message, std::string("interrupted"));
  CHECK(Clock::now() - start < std::chrono::seconds(5));
}

TEST(only_the_caller_polls_in_nested_calls_too) {
  const auto caller = std::this_thread::get_id();
  std::atomic<int> polls{0};
  Monitor monitor([&](uint64_t, uint64_t) {
    ++polls;
    CHECK(std::this_thread::get_id() == caller);
    return true;
  });
  parallel_for(64, 1, 4, monitor, [&](size_t, size_t, uint32_t) {
    parallel_for(4, 1, 4, monitor, [&](size_t, size_t, uint32_t) { pause_ms(1); });
  });
  CHECK(polls.load() > 0);
}

TEST(many_callers_at_once) {
  std::vector<std::thread> callers;
  for (int t = 0; t < 32; ++t) {
    callers.emplace_back([t] {
      for (int i = 0; i < 30; ++i) {
        const size_t count = static_cast<size_t>(100 + 7 * t + i);
        CHECK_EQ(sum_of_squares(count, 3, static_cast<uint32_t>(1 + i % 5)), expected_sum(count));
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
}

TEST(usable_cores_follow_the_affinity) {
  cpu_set_t before, one;
  CHECK_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  CPU_ZERO(&one);
  for (size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &before)) continue;
    CPU_SET(cpu, &one);
    break;
  }
  CHECK(usable_cores() >= 1);
  CHECK(usable_cores() <= static_cast<uint32_t>(CPU_COUNT(&before)));
  CHECK_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  CHECK_EQ(usable_cores(), 1);
  CHECK_EQ(resolve_threads(0), 1);
  CHECK_EQ(resolve_threads(7), 7);
  CHECK_EQ(sched_setaffinity(0, sizeof before, &before), 0);
  CHECK_EQ(resolve_threads(0), usable_cores());
}

// ThreadSanitizer does not support new threads in the child of a multi-threaded process.
#ifndef __SANITIZE_THREAD__
TEST(child_of_a_fork_has_a_pool_of_its_own) {
  CHECK_EQ(sum_of_squares(1000, 1, 4), expected_sum(1000));
  // One thread keeps the pool busy, so that forks meet its mutex held.
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop) sum_of_squares(64, 1, 4);
  });
  for (int i = 0; i < 50; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);  // a hang ends the child by a signal
      bool good = sum_of_squares(1000, 1, 4) == expected_sum(1000);
      const pid_t grandchild = fork();
      if (grandchild == 0) _exit(sum_of_squares(500, 1, 3) == expected_sum(500) ? 0 : 1);
      int status = -1;
      good = good && waitpid(grandchild, &status, 0) == grandchild && status == 0;
      _exit(good ? 0 : 1);
    }
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_EQ(sum_of_squares(1000, 1, 4), expected_sum(1000));
  }
  stop = true;
  busy.join();
}
#endif
