// SPDX-License-Identifier: Apache-2.0
// Index::build: check, copy, encode, link, or take a graph that is there.
#include <algorithm>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "bigrain/index.h"
#include "format/parts.h"
#include "graph/partitioned.h"
#include "graph/vamana.h"
#include "index/check_graph.h"
#include "index/choose_code_dim.h"
#include "index/prepare_disk.h"
#include "quant/code_space.h"
#include "quant/scalar8.h"
#include "quant/score_bound.h"
#include "simd/kernels.h"
#include "util/monitor.h"
#include "util/thread_pool.h"

namespace bigrain {

namespace {

template <class T>
void check_range(const char* name, T value, T low, T high) {
  if (value >= low && value <= high) return;
  throw Error::invalid(std::string(name) + ": got " + std::to_string(value) + "; expected " +
                       std::to_string(low) + " to " + std::to_string(high));
}

float alpha_of(const BuildParams& params) {
  const bool inner_product = params.metric == Metric::ip;
  if (params.alpha == 0) return inner_product ? kDefaultAlphaIp : kDefaultAlpha;
  check_range("alpha", params.alpha, kMinAlpha, inner_product ? kMaxAlphaIp : kMaxAlpha);
  return params.alpha;
}

void check(const MatrixView& vectors, const int64_t* ids, const BuildParams& params) {
  check_range<uint64_t>("vectors: dimension", vectors.dim, kMinDim, kMaxDim);
  check_range<uint64_t>("vectors: number of rows", vectors.rows, 0, kMaxPoints);
  if (params.degree != 0) check_range("degree", params.degree, kMinDegree, kMaxDegree);
  check_range("build_width", params.build_width, kMinBuildWidth, kMaxBuildWidth);
  check_range("threads", params.threads, 0u, kMaxThreads);
  check_range("pq_bytes", params.pq_bytes, 0u, static_cast<uint32_t>(vectors.dim));
  check_range("code_dim", params.code_dim, 0u, static_cast<uint32_t>(vectors.dim));
  if (ids == nullptr) return;
  std::vector<int64_t> sorted(ids, ids + vectors.rows);
  std::sort(sorted.begin(), sorted.end());
  if (!sorted.empty() && sorted.front() < 0) {
    throw Error::invalid("ids: got " + std::to_string(sorted.front()) +
                         "; expected non-negative ids (-1 marks missing results)");
  }
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) {
    throw Error::invalid("ids: " + std::to_string(*twice) +
                         " occurs more than once; expected distinct ids");
  }
}

void check_queries(const MatrixView& vectors, const MatrixView& queries) {
  if (queries.rows == 0) return;
  const Dtype expected = vectors.dtype == Dtype::f16 ? Dtype::f32 : vectors.dtype;
  if (queries.dim == vectors.dim && queries.dtype == expected) return;
  throw Error::invalid("train_queries: got dimension " + std::to_string(queries.dim) + " of " +
                       name_of(queries.dtype) + "; expected " + std::to_string(vectors.dim) +
                       " of " + name_of(expected) + ", as searches will ask");
}

uint32_t degree_of(const BuildParams& params, const IndexParts& parts) {
  if (params.degree != 0) return params.degree;
  const bool is_short = !parts.is_projected() && code_stride(parts.meta.dim) <= kShortCodeBytes;
  return is_short && parts.meta.count >= kPartitionedFrom ? kDefaultDegreeShort : kDefaultDegree;
}

bool is_partitioned(const BuildParams& params, uint64_t count, uint64_t dim) {
  if (params.builder == Builder::automatic) {
    return count >= kPartitionedFrom && dim >= kPartitionedFromDim;
  }
  return params.builder == Builder::partitioned;
}

Buffer copy_of(const void* data, size_t bytes) {
  Buffer buffer(bytes);
  if (bytes != 0) std::memcpy(buffer.data(), data, bytes);
  return buffer;
}

// The medoid: the point nearest to the mean has the least norm after centring. For inner product
// the longest vector, which is the best answer to most queries.
uint32_t choose_entry(const graph::CodeDistances& distances, uint64_t count, Monitor& monitor) {
  constexpr uint32_t kPollEvery = 1u << 14;
  graph::Pivot pivot(distances.codes.stride);
  uint32_t best = 0;
  float least = std::numeric_limits<float>::infinity();
  for (uint32_t i = 0; i < count; ++i) {
    if (i % kPollEvery == 0) monitor.check();
    float value = quant::constants_of(distances.codes.record(i), distances.codes.stride).bias;
    if (distances.inner_product) {
      pivot.set(distances, i);
      pivot.distances_to(distances, std::span(&i, 1), &value);
    }
    if (value < least) {
      least = value;
      best = i;
    }
  }
  return best;
}

Buffer made_graph(const IndexParts& parts, const graph::CodeDistances& distances,
                  const BuildParams& params, const simd::Kernels& kernels, uint32_t threads,
                  Monitor& monitor) {
  const IndexMeta& meta = parts.meta;
  const graph::VamanaParams how{meta.degree, params.build_width, meta.alpha, params.seed, threads};
  if (!is_partitioned(params, meta.count, meta.dim)) {
    return graph::build_vamana(distances, meta.count, meta.entry, how, monitor);
  }
  return graph::build_partitioned(distances, kernels, meta.code_dim, meta.count, meta.entry, how,
                                  monitor);
}

}  // namespace

Index Index::build(const MatrixView& vectors, const int64_t* ids, const BuildParams& params,
                   Monitor& monitor) {
  check(vectors, ids, params);
  check_queries(vectors, params.train_queries);
  const GraphView& ready = params.graph;
  if (ready.rows != nullptr) check_graph(ready, vectors.rows, monitor);
  const simd::Kernels& kernels = simd::active_kernels();
  auto parts = std::make_unique<IndexParts>();
  IndexMeta& meta = parts->meta;
  meta.metric = params.metric;
  meta.dtype = vectors.dtype;
  meta.dim = static_cast<uint32_t>(vectors.dim);
  meta.count = vectors.rows;
  meta.build_width = params.build_width;
  meta.alpha = alpha_of(params);
  meta.seed = params.seed;
  parts->vectors = copy_of(vectors.data, vectors.rows * vectors.dim * item_size(vectors.dtype));
  if (ids != nullptr) parts->ids = copy_of(ids, vectors.rows * sizeof(int64_t));

  const uint32_t threads = resolve_threads(params.threads);
  quant::fit_mean(*parts, threads, monitor);
  choose_code_dim(*parts, params.code_dim, params.train_queries, kernels, threads, monitor);
  meta.degree = ready.rows != nullptr ? ready.degree : degree_of(params, *parts);
  quant::encode_all(*parts, kernels, threads, monitor);
  if (meta.count != 0) {
    const size_t stride = code_stride(meta.code_dim);
    const graph::CodeDistances distances{
        {parts->codes.data(), stride}, kernels.score_codes, meta.metric == Metric::ip};
    meta.entry = ready.entry ? *ready.entry : choose_entry(distances, meta.count, monitor);
    parts->graph = ready.rows != nullptr
                       ? copy_of(ready.rows, meta.count * meta.degree * sizeof(uint32_t))
                       : made_graph(*parts, distances, params, kernels, threads, monitor);
    quant::fit_score_bound(*parts, kernels, monitor);
  }
  if (params.pq_bytes != 0) prepare_disk(*parts, params.pq_bytes, threads, monitor);
  monitor.check_now();
  return Index(std::move(parts));
}

}  // namespace bigrain
