// SPDX-License-Identifier: Apache-2.0
// What the tests of the stand-alone quantizers share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <random>
#include <vector>

#include "bigrain/types.h"
#include "quant/frame.h"
#include "util/monitor.h"

namespace bigrain::check {

inline std::vector<float> gaussian_vectors(size_t count, size_t dim, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> vectors(count * dim);
  for (float& value : vectors) value = normal(random);
  return vectors;
}

inline MatrixView view_of(const std::vector<float>& x, size_t dim) {
  return {x.data(), x.size() / dim, dim, Dtype::f32};
}

inline double exact_distance(const float* a, const float* b, size_t dim, Metric metric) {
  double square = 0, product = 0, aa = 0, bb = 0;
  for (size_t j = 0; j < dim; ++j) {
    square += (double{a[j]} - b[j]) * (double{a[j]} - b[j]);
    product += double{a[j]} * b[j];
    aa += double{a[j]} * a[j];
    bb += double{b[j]} * b[j];
  }
  if (metric == Metric::l2) return square;
  return metric == Metric::ip ? -product : 1 - product / std::sqrt(aa * bb);
}

template <class Quantizer>
std::vector<std::byte> encode_all(const Quantizer& quantizer, const std::vector<float>& x,
                                  size_t dim, uint32_t threads = 1) {
  Monitor monitor;
  std::vector<std::byte> codes(x.size() / dim * quantizer.code_size());
  quantizer.encode(view_of(x, dim), threads, monitor, codes.data());
  return codes;
}

template <class Quantizer>
std::vector<float> decode_all(const Quantizer& quantizer, const std::vector<std::byte>& codes,
                              size_t dim) {
  Monitor monitor;
  const size_t count = codes.size() / quantizer.code_size();
  std::vector<float> out(count * dim);
  quantizer.decode({codes.data(), count}, 1, monitor, out.data());
  return out;
}

// Distances of queries to the codes of x, query by query.
template <class Quantizer>
std::vector<float> distances_of(const Quantizer& quantizer, const std::vector<float>& x,
                                const std::vector<float>& queries, size_t dim, Metric metric,
                                uint32_t threads = 1) {
  Monitor monitor;
  const std::vector<std::byte> codes = encode_all(quantizer, x, dim, threads);
  const size_t count = x.size() / dim;
  std::vector<float> out(queries.size() / dim * count);
  quantizer.distance(view_of(queries, dim), {codes.data(), count}, metric, threads, monitor,
                     out.data());
  return out;
}

}  // namespace bigrain::check
