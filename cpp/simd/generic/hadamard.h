// SPDX-License-Identifier: Apache-2.0
// The orthonormal fast Walsh-Hadamard transform (HadamardFn): stages h = 1, 2, 4, ... of
// (a, b) -> (a + b, a - b) on pairs h apart, then one product with 1 / sqrt(size). Every output is
// the same chain of additions on every instruction set, so the bits are the same too.
//
// A vector trait V provides, besides kLanes, load, store, add, sub, mul, set1: butterfly<h>(F), the
// stage h < kLanes within one register.
#pragma once

#include <cstddef>

namespace bigrain::simd {

template <class V>
void hadamard_stage(float* x, size_t size, size_t h) {
  for (size_t block = 0; block < size; block += 2 * h) {
    for (size_t i = block; i < block + h; ++i) {
      const float a = x[i], b = x[i + h];
      x[i] = a + b;
      x[i + h] = a - b;
    }
  }
}

template <class V>
typename V::F hadamard_in_register(typename V::F x) {
  x = V::template butterfly<1>(x);
  x = V::template butterfly<2>(x);
  if constexpr (V::kLanes >= 8) x = V::template butterfly<4>(x);
  if constexpr (V::kLanes >= 16) x = V::template butterfly<8>(x);
  return x;
}

template <class V>
void hadamard(float* x, size_t size) {
  const float scale = static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(size)));
  if (size < V::kLanes) {
    for (size_t h = 1; h < size; h *= 2) hadamard_stage<V>(x, size, h);
    for (size_t i = 0; i < size; ++i) x[i] *= scale;
    return;
  }
  for (size_t i = 0; i < size; i += V::kLanes)
    V::store(x + i, hadamard_in_register<V>(V::load(x + i)));
  for (size_t h = V::kLanes; h < size; h *= 2) {
    for (size_t block = 0; block < size; block += 2 * h) {
      for (size_t i = block; i < block + h; i += V::kLanes) {
        const typename V::F a = V::load(x + i), b = V::load(x + i + h);
        V::store(x + i, V::add(a, b));
        V::store(x + i + h, V::sub(a, b));
      }
    }
  }
  for (size_t i = 0; i < size; i += V::kLanes)
    V::store(x + i, V::mul(V::load(x + i), V::set1(scale)));
}

}  // namespace bigrain::simd
