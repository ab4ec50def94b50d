// SPDX-License-Identifier: Apache-2.0
// Random numbers that are the same on every platform, compiler and thread count.
//
// Generator: xoshiro256** (Blackman and Vigna, ACM TOMS 47(4), 2021), its state filled by
// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), as its authors advise. Bounded integers:
// Lemire's multiplication method with rejection (ACM TOMACS 29(1), 2019), free of modulo bias. The
// standard library's distributions and std::shuffle are not used: their results differ among
// libraries.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace bigrain {

// A bijection of 64-bit integers that scatters neighbouring inputs: a hash, and, applied to
// (seed, index), a random number that needs no state.
constexpr uint64_t mix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

class Rng {
 public:
  // Equal (seed, stream) give equal sequences. Use a stream per purpose, or per item where items
  // are handled in parallel.
  explicit constexpr Rng(uint64_t seed, uint64_t stream = 0) {
    uint64_t x = mix64(seed) ^ mix64(~stream);
    for (uint64_t& word : state_) {
      word = mix64(x);
      x += 0x9e3779b97f4a7c15;
    }
  }

  constexpr uint64_t next() {
    const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const uint64_t t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

  // Uniform in [0, n); n > 0.
  constexpr uint64_t bounded(uint64_t n) {
    __extension__ using Wide = unsigned __int128;
    Wide product = static_cast<Wide>(next()) * n;
    if (static_cast<uint64_t>(product) < n) {
      const uint64_t threshold = (0 - n) % n;
      while (static_cast<uint64_t>(product) < threshold) {
        product = static_cast<Wide>(next()) * n;
      }
    }
    return static_cast<uint64_t>(product >> 64);
  }

  // Uniform in [0, 1): 24 bits, every value a float exactly.
  constexpr float uniform() { return static_cast<float>(next() >> 40) * 0x1.0p-24f; }

 private:
  uint64_t state_[4] = {};
};

// Fisher and Yates, from the back.
template <class T>
constexpr void shuffle(std::span<T> items, Rng& rng) {
  for (size_t i = items.size(); i > 1; --i) {
    std::swap(items[i - 1], items[static_cast<size_t>(rng.bounded(i))]);
  }
}

// items <- a random permutation of 0, 1, ..., items.size() - 1.
template <class T>
constexpr void fill_permutation(std::span<T> items, Rng& rng) {
  for (size_t i = 0; i < items.size(); ++i) items[i] = static_cast<T>(i);
  shuffle(items, rng);
}

}  // namespace bigrain
