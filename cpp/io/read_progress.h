// SPDX-License-Identifier: Apache-2.0
// What is left of one read after each transfer: the rules of all backends for interruptions, short
// transfers and the end of the file.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "io/block_reader.h"

namespace bigrain::io {

class ReadProgress {
 public:
  ReadProgress() = default;
  explicit ReadProgress(const BlockRead& read) : read_(read) {}

  // The transfer to ask for now.
  uint64_t offset() const { return read_.offset + done_; }
  std::byte* to() const { return read_.to + done_; }
  uint32_t bytes() const { return read_.bytes - done_; }

  // Takes what the transfer returned: bytes, or -errno. true: ask again. `alignment` is that of
  // direct reads, 1 where there is none: a transfer that stopped between two blocks is repeated
  // from the last one's beginning. That does not come further at the end of a file, and ends there.
  bool take(int64_t returned, uint32_t alignment) {
    if (returned == -EINTR || returned == -EAGAIN) {
      result_ = static_cast<int32_t>(returned);
      return ++refused_ <= kMaxRefused;
    }
    if (returned < 0 || returned > bytes()) {
      result_ = returned < 0 ? static_cast<int32_t>(returned) : -EIO;
      return false;
    }
    const uint32_t total = done_ + static_cast<uint32_t>(returned);
    const bool further = total > reached_;
    reached_ = std::max(reached_, total);
    result_ = static_cast<int32_t>(reached_);
    done_ = reached_ / alignment * alignment;
    return further && reached_ < read_.bytes;
  }

  BlockDone answer() const { return {read_.tag, result_}; }

 private:
  // Nobody interrupts a read so often; a device that always refuses must not hang a search.
  static constexpr uint32_t kMaxRefused = 1000;

  BlockRead read_;
  uint32_t done_ = 0;     // from where the next transfer goes on
  uint32_t reached_ = 0;  // bytes that are there
  uint32_t refused_ = 0;
  int32_t result_ = 0;
};

}  // namespace bigrain::io
