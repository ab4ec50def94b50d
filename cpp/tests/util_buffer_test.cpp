// SPDX-License-Identifier: Apache-2.0
#include "util/buffer.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <new>
#include <utility>

#include "check.h"

using namespace bigrain;

namespace {

constexpr size_t kMiB = size_t{1} << 20;

bool all_zero(const Buffer& buffer) {
  return std::all_of(buffer.data(), buffer.data() + buffer.size(),
                     [](std::byte b) { return b == std::byte{0}; });
}

bool too_large(size_t bytes) {
  try {
    Buffer buffer(bytes);
  } catch (const std::bad_alloc&) {
    return true;
  }
  return false;
}

}  // namespace

TEST(buffers_are_aligned_and_zero) {
  for (const size_t size : {size_t{1}, size_t{63}, size_t{64}, size_t{4095}, 4 * kMiB - 1, 4 * kMiB,
                            4 * kMiB + 1, 7 * kMiB + 12345}) {
    for (int again = 0; again < 2; ++again) {
      Buffer buffer(size);
      CHECK_EQ(buffer.size(), size);
      const size_t alignment = size >= 4 * kMiB ? 2 * kMiB : 64;
      CHECK_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % alignment, 0);
      CHECK(all_zero(buffer));
      std::fill_n(buffer.data(), size, std::byte{0xff});  // the second round may get it back
    }
  }
}

TEST(empty_buffers_own_nothing) {
  const Buffer none, zero(0);
  CHECK(none.data() == nullptr);
  CHECK(zero.data() == nullptr);
  CHECK_EQ(zero.size(), 0);
  CHECK_EQ(zero.as<float>().size(), 0);
}

TEST(moves_hand_the_memory_over) {
  Buffer small(100), large(5 * kMiB);
  std::byte* const small_data = small.data();
  std::byte* const large_data = large.data();
  Buffer moved(std::move(large));
  CHECK(moved.data() == large_data);
  CHECK_EQ(moved.size(), 5 * kMiB);
  moved = std::move(small);
  CHECK(moved.data() == small_data);
  CHECK_EQ(moved.size(), 100);
}

TEST(typed_views_cover_whole_elements) {
  Buffer buffer(10);
  CHECK_EQ(buffer.as<uint32_t>().size(), 2);
  buffer.as<uint32_t>()[1] = 7;
  CHECK_EQ(std::as_const(buffer).as<uint32_t>()[1], 7);
}

TEST(impossible_sizes_throw) {
  CHECK(too_large(std::numeric_limits<size_t>::max()));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  CHECK(too_large(std::numeric_limits<size_t>::max() / 4));
#endif
}
