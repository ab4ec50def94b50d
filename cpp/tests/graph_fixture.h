// SPDX-License-Identifier: Apache-2.0
// Small random indexes for the tests of quant, graph, search and index.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "bigrain/index.h"
#include "format/parts.h"
#include "graph/prune.h"
#include "quant/code_space.h"
#include "simd/kernels.h"
#include "util/monitor.h"
#include "util/rng.h"

namespace bigrain::check {

// Clustered, like real embeddings: centres 1 apart, spread 0.3.
inline std::vector<float> random_vectors(size_t count, size_t dim, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> centres(16 * dim), vectors(count * dim);
  for (float& value : centres) value = rng.uniform() - 0.5f;
  for (size_t i = 0; i < count; ++i) {
    const float* centre = &centres[rng.bounded(16) * dim];
    for (size_t j = 0; j < dim; ++j) {
      vectors[i * dim + j] = centre[j] + 0.3f * (rng.uniform() - 0.5f);
    }
  }
  return vectors;
}

// Encoded float32 vectors without a graph.
struct EncodedSet {
  EncodedSet(const std::vector<float>& vectors, size_t dim, Metric metric = Metric::l2) {
    parts.meta.metric = metric;
    parts.meta.dim = static_cast<uint32_t>(dim);
    parts.meta.count = vectors.size() / dim;
    parts.vectors = Buffer(vectors.size() * sizeof(float));
    if (!vectors.empty()) {
      std::memcpy(parts.vectors.data(), vectors.data(), parts.vectors.size());
    }
    Monitor monitor;
    parts.meta.code_dim = parts.meta.dim;
    quant::fit_mean(parts, 1, monitor);
    quant::set_rotation(parts);
    quant::encode_all(parts, simd::active_kernels(), 1, monitor);
  }

  size_t stride() const { return code_stride(parts.meta.dim); }
  search::CodesView codes() const { return {parts.codes.data(), stride()}; }
  graph::CodeDistances distances() const {
    return {codes(), simd::active_kernels().score_codes, parts.meta.metric == Metric::ip};
  }
  // Squared distance of two stored codes, by the kernel under test elsewhere.
  float distance(uint32_t a, uint32_t b) const {
    graph::Pivot pivot(stride());
    pivot.set(distances(), a);
    float result = 0;
    pivot.distances_to(distances(), std::span(&b, 1), &result);
    return result;
  }

  IndexParts parts;
};

}  // namespace bigrain::check
