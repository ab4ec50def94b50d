// SPDX-License-Identifier: Apache-2.0
// Distances of float32 and float16 vectors to a float32 query.
//
// Every instruction set adds in the same order and so returns the same bits: element i goes to
// sum i % kSums, whatever the width of a register; the sums are folded in halves (s[j] += s[j+16],
// then 8, 4, 2, 1); products are rounded before they are added (no FMA, which the scalar table
// could only emulate). That costs up to 13 % on float32 in cache (bench/LOG.md, "simd") and makes
// an index built on one machine the index built on any other.
//
// A vector trait V provides: F, kLanes, zero, add, sub, mul, fold (lanes in halves, to a float),
// load and load_part of const float* and const Half*; load_part reads only n < kLanes elements and
// gives zeros for the rest. Padding with zeros is exact: a sum starts at +0 and can never become
// -0, so adding a zero of either sign leaves its bits alone.
#pragma once

#include <cstddef>

#include "simd/generic/half.h"

namespace bigrain::simd {

// 32 sums are 4 registers of 8 floats: enough to cover the latency of an add (3 to 4 cycles) at
// the one step per cycle that two loads per cycle allow; three sums of 32 still fit 16 registers.
inline constexpr size_t kSums = 32;

template <class V>
struct L2Step {
  static constexpr size_t kTerms = 1;
  template <class Acc>
  static void step(Acc& acc, size_t v, typename V::F q, typename V::F x) {
    const typename V::F difference = V::sub(q, x);
    acc[0][v] = V::add(acc[0][v], V::mul(difference, difference));
  }
};

template <class V>
struct IpStep {
  static constexpr size_t kTerms = 1;
  template <class Acc>
  static void step(Acc& acc, size_t v, typename V::F q, typename V::F x) {
    acc[0][v] = V::add(acc[0][v], V::mul(q, x));
  }
};

template <class V>
struct CosineStep {
  static constexpr size_t kTerms = 3;
  template <class Acc>
  static void step(Acc& acc, size_t v, typename V::F q, typename V::F x) {
    acc[0][v] = V::add(acc[0][v], V::mul(q, x));
    acc[1][v] = V::add(acc[1][v], V::mul(x, x));
    acc[2][v] = V::add(acc[2][v], V::mul(q, q));
  }
};

// One pass over both vectors; terms[t] is the t-th sum of Step.
template <class V, class Step, class T>
void accumulate(const float* query, const T* x, size_t dim, float* terms) {
  constexpr size_t kVectors = kSums / V::kLanes;
  typename V::F acc[Step::kTerms][kVectors];
  for (size_t t = 0; t < Step::kTerms; ++t)
    for (size_t v = 0; v < kVectors; ++v) acc[t][v] = V::zero();
  const size_t whole = dim - dim % kSums;
  for (size_t i = 0; i < whole; i += kSums) {
#pragma GCC unroll 8
    for (size_t v = 0; v < kVectors; ++v)
      Step::step(acc, v, V::load(query + i + v * V::kLanes), V::load(x + i + v * V::kLanes));
  }
  // Unrolled with constant indexes: an index known only at run time would force `acc` to memory.
#pragma GCC unroll 8
  for (size_t v = 0; v < kVectors; ++v) {
    const size_t i = whole + v * V::kLanes;
    if (i + V::kLanes <= dim) {
      Step::step(acc, v, V::load(query + i), V::load(x + i));
    } else if (i < dim) {
      Step::step(acc, v, V::load_part(query + i, dim - i), V::load_part(x + i, dim - i));
    }
  }
  for (size_t t = 0; t < Step::kTerms; ++t) {
#pragma GCC unroll 4
    for (size_t half = kVectors / 2; half > 0; half /= 2)
#pragma GCC unroll 4
      for (size_t v = 0; v < half; ++v) acc[t][v] = V::add(acc[t][v], acc[t][v + half]);
    terms[t] = V::fold(acc[t][0]);
  }
}

// 1 - ip / (|q| |x|), in double so that the product of two squared norms cannot overflow.
template <class V>
float cosine_of(double ip, double xx, double qq) {
  if (!(xx > 0) || !(qq > 0)) return 1.0f;
  const double distance = 1.0 - ip / __builtin_sqrt(xx * qq);
  return static_cast<float>(distance < 0.0 ? 0.0 : distance > 2.0 ? 2.0 : distance);
}

template <class V, class T>
float l2_float(const void* query, const void* vector, size_t dim) {
  float sum;
  accumulate<V, L2Step<V>>(static_cast<const float*>(query), static_cast<const T*>(vector), dim,
                           &sum);
  return sum;
}

template <class V, class T>
float ip_float(const void* query, const void* vector, size_t dim) {
  float sum;
  accumulate<V, IpStep<V>>(static_cast<const float*>(query), static_cast<const T*>(vector), dim,
                           &sum);
  return -sum;
}

template <class V, class T>
float cosine_float(const void* query, const void* vector, size_t dim) {
  float sums[3];
  accumulate<V, CosineStep<V>>(static_cast<const float*>(query), static_cast<const T*>(vector), dim,
                               sums);
  return cosine_of<V>(sums[0], sums[1], sums[2]);
}

}  // namespace bigrain::simd
