// SPDX-License-Identifier: Apache-2.0
#include "io/reader_pool.h"

#include <algorithm>

namespace bigrain::io {

namespace {

// More than threads that search at a time on most machines; the rest is made anew.
constexpr size_t kMostIdle = 64;

}  // namespace

ReaderPool::Loan ReaderPool::borrow(size_t depth, size_t arena_bytes) {
  {
    const std::lock_guard lock(mutex_);
    const auto fits = [&](const std::unique_ptr<BlockReader>& reader) {
      return reader->ours() && reader->depth() == depth && reader->arena().size() == arena_bytes;
    };
    const auto found = std::find_if(idle_.begin(), idle_.end(), fits);
    if (found != idle_.end()) {
      std::unique_ptr<BlockReader> reader = std::move(*found);
      idle_.erase(found);
      return {*this, std::move(reader)};
    }
  }
  return {*this, file_.make_reader(depth, arena_bytes)};
}

void ReaderPool::put(std::unique_ptr<BlockReader> reader) noexcept {
  // One that cannot be emptied is not used again.
  if (!reader->ours() || !reader->drain()) return;
  try {
    const std::lock_guard lock(mutex_);
    if (idle_.size() < kMostIdle) idle_.push_back(std::move(reader));
  } catch (...) {  // no room to remember it: it goes
  }
}

}  // namespace bigrain::io
