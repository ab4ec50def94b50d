// SPDX-License-Identifier: Apache-2.0
// Tells a forked child from its parent, and threads apart, without a system call.
#pragma once

#include <cstdint>

namespace bigrain::io {

// 0 in the first process, one more after every fork() on the way to this one. Threads, rings and
// memory that fork() does not carry over remember the value of their making, and whoever finds
// another one leaves them alone.
uint32_t process_generation();

// Unlike std::thread::id, never the number of an earlier thread that has ended.
uint64_t thread_number();

}  // namespace bigrain::io
