// SPDX-License-Identifier: Apache-2.0
#include "io/process.h"

#include <pthread.h>

#include <atomic>

namespace bigrain::io {

namespace {

std::atomic<uint32_t> generation{0};
std::atomic<uint64_t> threads{0};

void count_fork() { generation.fetch_add(1, std::memory_order_relaxed); }
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, count_fork);

}  // namespace

uint32_t process_generation() { return generation.load(std::memory_order_relaxed); }

uint64_t thread_number() {
  thread_local const uint64_t number = threads.fetch_add(1, std::memory_order_relaxed);
  return number;
}

}  // namespace bigrain::io
