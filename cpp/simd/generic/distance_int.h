// SPDX-License-Identifier: Apache-2.0
// Distances of int8 and uint8 vectors: bytes are widened to 16 bits, products summed in pairs into
// int32 lanes, lanes into int64. Exact, so the order of the sums is free; only the last conversion
// to float rounds, and it rounds the same number on every instruction set.
//
// A vector trait V provides: kWideLanes, Wide (kWideLanes int16), widen and widen_part of
// const int8_t* and const uint8_t*, sub16, Acc (int32 lanes), zero_acc, add_products(acc, a, b),
// sum (Acc to int64). widen_part reads only n < kWideLanes bytes and gives zeros for the rest.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bigrain/params.h"
#include "simd/generic/distance_float.h"

namespace bigrain::simd {

// No flush to int64 within a vector: an int32 lane takes at most its share of the largest vector,
// and the traits have at least 4 lanes.
inline constexpr size_t kMinIntLanes = 4;
static_assert(uint64_t{kMaxDim} / kMinIntLanes * 255 * 255 < (uint64_t{1} << 31));

template <class V>
struct L2IntStep {
  static constexpr size_t kTerms = 1;
  static void step(typename V::Acc* acc, typename V::Wide q, typename V::Wide x) {
    const typename V::Wide difference = V::sub16(q, x);
    acc[0] = V::add_products(acc[0], difference, difference);
  }
};

template <class V>
struct IpIntStep {
  static constexpr size_t kTerms = 1;
  static void step(typename V::Acc* acc, typename V::Wide q, typename V::Wide x) {
    acc[0] = V::add_products(acc[0], q, x);
  }
};

template <class V>
struct CosineIntStep {
  static constexpr size_t kTerms = 3;
  static void step(typename V::Acc* acc, typename V::Wide q, typename V::Wide x) {
    acc[0] = V::add_products(acc[0], q, x);
    acc[1] = V::add_products(acc[1], x, x);
    acc[2] = V::add_products(acc[2], q, q);
  }
};

template <class V, class Step, class T>
void accumulate_int(const T* query, const T* x, size_t dim, int64_t* terms) {
  typename V::Acc acc[Step::kTerms];
  for (size_t t = 0; t < Step::kTerms; ++t) acc[t] = V::zero_acc();
  size_t i = 0;
  for (; i + V::kWideLanes <= dim; i += V::kWideLanes)
    Step::step(acc, V::widen(query + i), V::widen(x + i));
  if (i < dim) Step::step(acc, V::widen_part(query + i, dim - i), V::widen_part(x + i, dim - i));
  for (size_t t = 0; t < Step::kTerms; ++t) terms[t] = V::sum(acc[t]);
}

template <class V, class T>
float l2_int(const void* query, const void* vector, size_t dim) {
  int64_t sum;
  accumulate_int<V, L2IntStep<V>>(static_cast<const T*>(query), static_cast<const T*>(vector), dim,
                                  &sum);
  return static_cast<float>(sum);
}

template <class V, class T>
float ip_int(const void* query, const void* vector, size_t dim) {
  int64_t sum;
  accumulate_int<V, IpIntStep<V>>(static_cast<const T*>(query), static_cast<const T*>(vector), dim,
                                  &sum);
  return static_cast<float>(-sum);
}

template <class V, class T>
float cosine_int(const void* query, const void* vector, size_t dim) {
  int64_t sums[3];
  accumulate_int<V, CosineIntStep<V>>(static_cast<const T*>(query), static_cast<const T*>(vector),
                                      dim, sums);
  return cosine_of<V>(static_cast<double>(sums[0]), static_cast<double>(sums[1]),
                      static_cast<double>(sums[2]));
}

}  // namespace bigrain::simd
