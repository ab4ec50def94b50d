// SPDX-License-Identifier: Apache-2.0
#include "io/stream.h"

#include <algorithm>
#include <cstring>

namespace bigrain::io {

void AppendStream::append(const void* from, size_t bytes) {
  const auto* source = static_cast<const std::byte*>(from);
  while (bytes > 0) {
    const size_t part = std::min(bytes, buffer_.size() - used_);
    std::memcpy(buffer_.data() + used_, source, part);
    used_ += part;
    source += part;
    bytes -= part;
    if (used_ == buffer_.size()) flush();
  }
}

void AppendStream::flush() {
  file_.write(written_, buffer_.data(), used_);
  written_ += used_;
  used_ = 0;
}

void AppendStream::finish() {
  flush();
  file_.sync();
}

void ReadStream::read(void* to, size_t bytes) {
  auto* target = static_cast<std::byte*>(to);
  while (bytes > 0) {
    if (begin_ == filled_) {
      const size_t wanted = std::min<uint64_t>(buffer_.size(), end_ - position_);
      begin_ = 0;
      filled_ = file_->read(position_, buffer_.data(), wanted);
      position_ += filled_;
      if (filled_ == 0) throw Error::corrupt("'" + file_->path() + "' ends too early");
    }
    const size_t part = std::min(bytes, filled_ - begin_);
    std::memcpy(target, buffer_.data() + begin_, part);
    begin_ += part;
    target += part;
    bytes -= part;
  }
}

}  // namespace bigrain::io
