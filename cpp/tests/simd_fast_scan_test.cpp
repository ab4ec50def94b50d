// SPDX-License-Identifier: Apache-2.0
// fast_scan and gate of every table against plain code; operands end against a page that faults.
#include <algorithm>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "simd_common.h"
#include "util/half.h"

namespace bigrain::simd {
namespace {

constexpr size_t kBlock = 32, kBytes = 16;

std::vector<uint32_t> expected_sums(const uint8_t* lut, const uint8_t* codes, size_t subs) {
  std::vector<uint32_t> sums(kBlock);
  for (size_t m = 0; m < subs; ++m) {
    for (size_t j = 0; j < kBlock; ++j) {
      const uint8_t pair = codes[m * kBytes + j % kBytes];
      sums[j] += lut[m * kBytes + (j < kBytes ? pair & 15 : pair >> 4)];
    }
  }
  return sums;
}

template <class Lut, class Code>
void check_block(const std::vector<NamedTable>& tables, size_t subs, Lut&& lut_value,
                 Code&& code_value) {
  GuardedBuffer lut_memory(subs * kBytes), code_memory(subs * kBytes);
  uint8_t* lut = reinterpret_cast<uint8_t*>(lut_memory.last(subs * kBytes));
  uint8_t* codes = reinterpret_cast<uint8_t*>(code_memory.last(subs * kBytes));
  for (size_t i = 0; i < subs * kBytes; ++i) {
    lut[i] = static_cast<uint8_t>(lut_value(i));
    codes[i] = static_cast<uint8_t>(code_value(i));
  }
  const std::vector<uint32_t> expected = expected_sums(lut, codes, subs);
  constexpr uint32_t kMark = 0xabcdef01;
  for (const NamedTable& table : tables) {
    std::vector<uint32_t> out(kBlock + 1, kMark);
    table.kernels->fast_scan(lut, codes, subs, out.data());
    CHECK_EQ(out[kBlock], kMark);
    for (size_t j = 0; j < kBlock; ++j) {
      if (out[j] != expected[j])
        check::fail(__FILE__, __LINE__,
                    table.name + " subs " + std::to_string(subs) + " vector " + std::to_string(j) +
                        ": got " + check::show(out[j]) + ", expected " + check::show(expected[j]));
    }
  }
}

TEST(every_number_of_sub_codes) {
  const std::vector<NamedTable> tables = tables_here();
  std::mt19937 random(1);
  for (size_t subs = 1; subs <= 520; ++subs)
    check_block(tables, subs, [&](size_t) { return random(); }, [&](size_t) { return random(); });
}

TEST(largest_sums) {
  const std::vector<NamedTable> tables = tables_here();
  std::mt19937 random(2);
  for (const size_t subs : {1, 3, 255, 256, 257, 259, 512, 513, 1024, 4096}) {
    check_block(tables, subs, [](size_t) { return 255; }, [&](size_t) { return random(); });
    check_block(
        tables, subs, [](size_t i) { return i % 2 ? 255 : 0; }, [&](size_t) { return random(); });
    check_block(
        tables, subs, [](size_t i) { return i % 16 == 15 ? 255 : 0; },
        [](size_t i) { return i % 2 ? 0xf0 : 0x0f; });
    check_block(tables, subs, [](size_t i) { return i % 16; }, [](size_t) { return 0xff; });
  }
}

float estimate(uint32_t sum, uint16_t offset, uint16_t factor, const GateTerms& terms) {
  const float dot = terms.step * static_cast<float>(sum) + terms.base;
  return half_to_float(offset) - half_to_float(factor) * dot;
}

// Any bits as halves, NaN and infinities among them; a limit that some estimates meet exactly.
TEST(gate_passes_what_its_formula_says) {
  const std::vector<NamedTable> tables = tables_here();
  std::mt19937 random(3);
  for (size_t round = 0; round < 2'000; ++round) {
    const size_t count = round % 2 == 0 ? kBlock : kBlock / 2;
    GuardedBuffer memory(4 * count), sum_memory(4 * count);
    auto* halves = reinterpret_cast<uint16_t*>(memory.last(4 * count));
    auto* sums = reinterpret_cast<uint32_t*>(sum_memory.last(4 * count));
    for (size_t j = 0; j < 2 * count; ++j) halves[j] = static_cast<uint16_t>(random());
    for (size_t j = 0; j < count; ++j) sums[j] = static_cast<uint32_t>(random() % 600'000);
    GateTerms terms{static_cast<float>(random() % 100) * 0.01f, -100.0f, 0};
    terms.most = estimate(sums[0], halves[0], halves[count], terms);
    if (round % 5 == 0) terms.most = std::numeric_limits<float>::infinity();
    uint32_t expected = 0;
    for (size_t j = 0; j < count; ++j) {
      const bool passes = estimate(sums[j], halves[j], halves[count + j], terms) <= terms.most;
      expected |= (passes ? uint32_t{1} : 0u) << j;
    }
    for (const NamedTable& table : tables)
      CHECK_EQ(table.kernels->gate(sums, halves, count, terms), expected);
  }
}

}  // namespace
}  // namespace bigrain::simd
