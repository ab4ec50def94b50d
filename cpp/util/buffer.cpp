// SPDX-License-Identifier: Apache-2.0
#include "util/buffer.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <new>

namespace bigrain {

namespace {

constexpr size_t kCacheLine = 64;
constexpr size_t kPage = size_t{4} << 10;
constexpr size_t kHugePage = size_t{2} << 20;  // x86-64, and arm64 with 4 KiB pages
// Two huge pages: below, trimming the mapping to their alignment costs more than they give.
constexpr size_t kMapFrom = 2 * kHugePage;

constexpr size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// `length` zeroed bytes, aligned to a huge page. The kernel aligns to small pages only, so one
// huge page more is asked for, and what lies outside goes back.
std::byte* map_aligned(size_t length) {
  const size_t asked = length + kHugePage;
  void* raw = mmap(nullptr, asked, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) throw std::bad_alloc();
  std::byte* begin = static_cast<std::byte*>(raw);
  const size_t head = (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
  std::byte* data = begin + head;
  if (head != 0) munmap(begin, head);
  if (head != kHugePage) munmap(data + length, kHugePage - head);
#ifdef MADV_HUGEPAGE
  madvise(data, length, MADV_HUGEPAGE);  // a wish: without huge pages the memory works as well
#endif
  return data;
}

}  // namespace

Buffer::Buffer(size_t bytes) {
  if (bytes == 0) return;
  if (bytes > std::numeric_limits<size_t>::max() / 2) throw std::bad_alloc();
  if (bytes >= kMapFrom) {
    const size_t length = round_up(bytes, kPage);
    data_ = map_aligned(length);
    mapped_ = length;
  } else {
    // Whole cache lines, so that vector loads may run to the end of the last one.
    const size_t length = round_up(bytes, kCacheLine);
    data_ = static_cast<std::byte*>(::operator new(length, std::align_val_t{kCacheLine}));
    std::memset(data_, 0, length);
  }
  size_ = bytes;
}

void Buffer::release() noexcept {
  if (mapped_ != 0) {
    munmap(data_, mapped_);
  } else if (data_ != nullptr) {
    ::operator delete(data_, std::align_val_t{kCacheLine});
  }
}

}  // namespace bigrain
