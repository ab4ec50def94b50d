// SPDX-License-Identifier: Apache-2.0
#include "util/crc32c.h"

#include <array>
#include <cstddef>
#include <numeric>
#include <random>
#include <vector>

#include "check.h"

namespace bigrain {
namespace {

// The definition, a bit at a time.
uint32_t oracle(const uint8_t* data, size_t bytes) {
  uint32_t crc = ~0u;
  for (size_t i = 0; i < bytes; ++i) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? 0x82F63B78u : 0);
  }
  return ~crc;
}

TEST(crc32c_published_values) {
  CHECK_EQ(crc32c("123456789", 9), 0xE3069283u);
  // RFC 3720, section B.4.
  std::array<uint8_t, 32> data{};
  CHECK_EQ(crc32c(data.data(), data.size()), 0x8A9136AAu);
  data.fill(0xFF);
  CHECK_EQ(crc32c(data.data(), data.size()), 0x62A8AB43u);
  std::iota(data.begin(), data.end(), uint8_t{0});
  CHECK_EQ(crc32c(data.data(), data.size()), 0x46DD794Eu);
  CHECK_EQ(crc32c(nullptr, 0), 0u);
}

TEST(crc32c_every_length_and_alignment) {
  std::vector<uint8_t> data(600);
  std::mt19937 random(1);
  for (uint8_t& byte : data) byte = static_cast<uint8_t>(random());
  for (size_t start = 0; start < 16; ++start) {
    for (size_t bytes = 0; bytes < 300; ++bytes) {
      const uint32_t expected = oracle(data.data() + start, bytes);
      CHECK_EQ(crc32c(data.data() + start, bytes), expected);
      CHECK_EQ(crc32c_portable(data.data() + start, bytes), expected);
    }
  }
}

TEST(crc32c_continues) {
  std::vector<uint8_t> data(1'000);
  std::iota(data.begin(), data.end(), uint8_t{3});
  const uint32_t whole = crc32c(data.data(), data.size());
  for (size_t cut = 0; cut <= data.size(); cut += 37) {
    const uint32_t head = crc32c(data.data(), cut);
    CHECK_EQ(crc32c(data.data() + cut, data.size() - cut, head), whole);
    CHECK_EQ(crc32c_portable(data.data() + cut, data.size() - cut, head), whole);
  }
}

}  // namespace
}  // namespace bigrain
