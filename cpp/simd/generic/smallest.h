// SPDX-License-Identifier: Apache-2.0
// The k smallest of a row of floats (SmallestFn), in order, equal ones by position.
//
// Two passes instead of a running limit, whose every improvement is a branch that no predictor
// knows: the first takes minima of kSlots interleaved parts without branches; the k-th smallest of
// them bounds the k-th smallest of all, and few values lie below it for the second pass to look at.
// The bound only decides what is looked at, so every instruction set finds the same.
//
// A vector trait V provides: F, kLanes, load, set1, min and bits_within(a, b) (bit i: a[i] <=
// b[i]).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "simd/kernels.h"

namespace bigrain::simd {

// Puts a value that is smaller than the last of `kept` at its place behind equal ones.
inline void insert_sorted(float value, uint32_t index, size_t last, float* kept,
                          uint32_t* positions) {
  size_t place = last;
  for (; place > 0 && kept[place - 1] > value; --place) {
    kept[place] = kept[place - 1];
    positions[place] = positions[place - 1];
  }
  kept[place] = value;
  positions[place] = index;
}

// An upper bound of the k-th smallest: that of the minima of interleaved parts.
template <class V>
inline __attribute__((always_inline)) float bound_of_smallest(const float* values, size_t count,
                                                              size_t k) {
  constexpr size_t kParts = kSmallestMax / V::kLanes;
  typename V::F least[kParts];
  for (size_t p = 0; p < kParts; ++p) least[p] = V::load(values + p * V::kLanes);
  for (size_t i = kSmallestMax; i < count; i += kSmallestMax)
    for (size_t p = 0; p < kParts; ++p)
      least[p] = V::min(least[p], V::load(values + i + p * V::kLanes));
  alignas(64) float minima[kSmallestMax];
  for (size_t p = 0; p < kParts; ++p) V::store(minima + p * V::kLanes, least[p]);
  float kept[kSmallestMax];
  size_t found = 0;
  for (const float minimum : minima) {
    if (found == k && !(minimum < kept[k - 1])) continue;
    size_t place = found < k ? found++ : k - 1;
    for (; place > 0 && kept[place - 1] > minimum; --place) kept[place] = kept[place - 1];
    kept[place] = minimum;
  }
  return kept[k - 1];
}

template <class V>
size_t smallest(const float* values, size_t count, size_t k, float* kept, uint32_t* positions) {
  float limit = bound_of_smallest<V>(values, count, k);
  size_t found = 0;
  for (size_t i = 0; i < count; i += V::kLanes) {
    uint32_t bits = V::bits_within(V::load(values + i), V::set1(limit));
    for (; bits != 0; bits &= bits - 1) {
      const uint32_t position = static_cast<uint32_t>(i) + std::countr_zero(bits);
      const float value = values[position];
      if (found == k && !(value < kept[k - 1])) continue;
      if (!(value < std::numeric_limits<float>::infinity())) continue;
      insert_sorted(value, position, found < k ? found++ : k - 1, kept, positions);
    }
  }
  return found;
}

}  // namespace bigrain::simd
