// SPDX-License-Identifier: Apache-2.0
#include "io/arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include <limits>
#include <new>

#include "io/process.h"

namespace bigrain::io {

Arena::Arena(size_t bytes) : generation_(process_generation()) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  if (bytes > std::numeric_limits<size_t>::max() / 2) throw std::bad_alloc();
  const size_t length = (bytes + page - 1) / page * page;
  if (length == 0) return;
  void* data = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) throw std::bad_alloc();
#ifdef MADV_DONTFORK
  madvise(data, length, MADV_DONTFORK);
#endif
  bytes_ = {static_cast<std::byte*>(data), length};
}

Arena::~Arena() {
  // In a child something else may lie at these addresses by now.
  if (bytes_.empty() || generation_ != process_generation()) return;
  munmap(bytes_.data(), bytes_.size());
}

}  // namespace bigrain::io
