// SPDX-License-Identifier: Apache-2.0
#include "util/rng.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "check.h"

using namespace bigrain;

TEST(mix64_is_splitmix64) {
  // The first outputs of SplitMix64 with seed 0, as published with its reference code.
  CHECK_EQ(mix64(0), 0xe220a8397b1dcdaf);
  CHECK_EQ(mix64(0x9e3779b97f4a7c15), 0x6e789e6aa1b965f4);
}

TEST(sequences_depend_on_seed_and_stream_only) {
  Rng a(1), b(1), other_seed(2), other_stream(1, 1);
  int equal_seed = 0, equal_stream = 0;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t x = a.next();
    CHECK_EQ(x, b.next());
    equal_seed += x == other_seed.next();
    equal_stream += x == other_stream.next();
  }
  CHECK_EQ(equal_seed, 0);
  CHECK_EQ(equal_stream, 0);
}

TEST(bounded_is_uniform) {
  Rng rng(7);
  for (const uint64_t n : {1u, 2u, 3u, 10u, 1000u}) {
    std::vector<int> counts(n);
    const int draws = 200 * static_cast<int>(n);
    for (int i = 0; i < draws; ++i) {
      const uint64_t x = rng.bounded(n);
      CHECK(x < n);
      ++counts[x];
    }
    // 200 expected per cell; seven standard deviations either way.
    const auto [low, high] = std::minmax_element(counts.begin(), counts.end());
    CHECK(*low >= 100);
    CHECK(*high <= 300);
  }
  const uint64_t huge = (uint64_t{1} << 63) + 1;  // half of all draws are rejected
  for (int i = 0; i < 1000; ++i) CHECK(rng.bounded(huge) < huge);
}

TEST(uniform_stays_below_one) {
  Rng rng(3);
  double sum = 0;
  for (int i = 0; i < 100'000; ++i) {
    const float x = rng.uniform();
    CHECK(x >= 0.0f && x < 1.0f);
    sum += x;
  }
  CHECK_NEAR(sum / 100'000, 0.5, 0.01);
}

TEST(permutations_hold_every_index_once) {
  for (const size_t n : {0, 1, 2, 10, 1000}) {
    std::vector<uint32_t> items(n);
    Rng rng(11);
    fill_permutation(std::span<uint32_t>(items), rng);
    std::vector<uint32_t> sorted = items;
    std::sort(sorted.begin(), sorted.end());
    for (size_t i = 0; i < n; ++i) CHECK_EQ(sorted[i], i);
    if (n >= 10) CHECK(sorted != items);
  }
}

TEST(permutations_of_three_are_equally_likely) {
  Rng rng(5);
  std::vector<int> counts(27);
  for (int i = 0; i < 6000; ++i) {
    uint8_t p[3];
    fill_permutation(std::span<uint8_t>(p), rng);
    ++counts[static_cast<size_t>(p[0] * 9 + p[1] * 3 + p[2])];
  }
  int seen = 0;
  for (const int count : counts) {
    if (count == 0) continue;
    ++seen;
    CHECK_NEAR(count, 1000, 210);  // seven standard deviations
  }
  CHECK_EQ(seen, 6);
}
