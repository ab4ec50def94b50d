// SPDX-License-Identifier: Apache-2.0
// The polynomial is 0x1EDC6F41 (RFC 3720, section 12.1), used bit-reversed. Where the machine has
// an instruction for it, eight bytes take three cycles, which outruns any disk; elsewhere eight
// tables take eight bytes at a time ("slicing by 8", Kounavis and Berry, 2005).
#include "util/crc32c.h"

#include <array>
#include <cstring>

#if defined(__aarch64__)
#include <arm_acle.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#elif defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace bigrain {

namespace {

constexpr uint32_t kReversedPolynomial = 0x82F63B78u;
using Tables = std::array<std::array<uint32_t, 256>, 8>;

// tables[j][b]: what byte b contributes when j more bytes follow it in the block of eight.
constexpr Tables make_tables() {
  Tables tables{};
  for (uint32_t b = 0; b < 256; ++b) {
    uint32_t crc = b;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? kReversedPolynomial : 0);
    tables[0][b] = crc;
  }
  for (size_t j = 1; j < 8; ++j) {
    for (uint32_t b = 0; b < 256; ++b) {
      const uint32_t crc = tables[j - 1][b];
      tables[j][b] = (crc >> 8) ^ tables[0][crc & 0xFF];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

// Each update works on the inverted register; crc32c() inverts around it.
using Update = uint32_t (*)(uint32_t state, const unsigned char* data, size_t bytes);

uint64_t load64(const unsigned char* data) {
  uint64_t word;
  std::memcpy(&word, data, sizeof word);
  return word;
}

uint32_t update_portable(uint32_t state, const unsigned char* data, size_t bytes) {
  for (; bytes >= 8; data += 8, bytes -= 8) {
    const uint64_t word = load64(data) ^ state;
    state = 0;
    for (size_t j = 0; j < 8; ++j) state ^= kTables[7 - j][(word >> (8 * j)) & 0xFF];
  }
  for (; bytes > 0; ++data, --bytes) state = (state >> 8) ^ kTables[0][(state ^ *data) & 0xFF];
  return state;
}

#if defined(__x86_64__)

__attribute__((target("sse4.2"))) uint32_t update_hardware(uint32_t state,
                                                           const unsigned char* data,
                                                           size_t bytes) {
  uint64_t wide = state;
  for (; bytes >= 8; data += 8, bytes -= 8) wide = _mm_crc32_u64(wide, load64(data));
  state = static_cast<uint32_t>(wide);
  for (; bytes > 0; ++data, --bytes) state = _mm_crc32_u8(state, *data);
  return state;
}

bool has_hardware() { return __builtin_cpu_supports("sse4.2"); }

#elif defined(__aarch64__)

#if defined(__clang__)
#define BIGRAIN_TARGET_CRC __attribute__((target("crc")))
#else
#define BIGRAIN_TARGET_CRC __attribute__((target("+crc")))
#endif

BIGRAIN_TARGET_CRC uint32_t update_hardware(uint32_t state, const unsigned char* data,
                                            size_t bytes) {
  for (; bytes >= 8; data += 8, bytes -= 8) state = __crc32cd(state, load64(data));
  for (; bytes > 0; ++data, --bytes) state = __crc32cb(state, *data);
  return state;
}

bool has_hardware() {
#if defined(__linux__)
  constexpr unsigned long kHwcapCrc32 = 1ul << 7;  // HWCAP_CRC32 of asm/hwcap.h
  return (getauxval(AT_HWCAP) & kHwcapCrc32) != 0;
#else
  return true;  // every Apple machine with this architecture
#endif
}

#else

constexpr Update update_hardware = update_portable;
bool has_hardware() { return false; }

#endif

}  // namespace

uint32_t crc32c(const void* data, size_t bytes, uint32_t before) {
  static const Update update = has_hardware() ? update_hardware : update_portable;
  return ~update(~before, static_cast<const unsigned char*>(data), bytes);
}

uint32_t crc32c_portable(const void* data, size_t bytes, uint32_t before) {
  return ~update_portable(~before, static_cast<const unsigned char*>(data), bytes);
}

}  // namespace bigrain
