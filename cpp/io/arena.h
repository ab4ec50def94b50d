// SPDX-License-Identifier: Apache-2.0
// Memory that a device writes to: whole pages, not copied by fork().
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace bigrain::io {

// A child of fork() finds nothing at these addresses. It must not: were the pages shared until one
// process writes, the parent could get a copy while the device writes to what the child keeps.
class Arena {
 public:
  // Zeroed, rounded up to whole pages. Throws std::bad_alloc.
  explicit Arena(size_t bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  std::span<std::byte> bytes() const { return bytes_; }
  // Never gives the memory back: for reads that could not be waited for.
  void leak() { bytes_ = {}; }

 private:
  std::span<std::byte> bytes_;
  const uint32_t generation_;
};

}  // namespace bigrain::io
