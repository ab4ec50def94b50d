// SPDX-License-Identifier: Apache-2.0
// Index::build: check, copy, encode, link, or take a graph that is there.
#include <cstring>
#include <string>

#include "bigrain/index.h"
#include "format/parts.h"
#include "graph/partitioned.h"
#include "graph/vamana.h"
#include "index/build_rules.h"
#include "index/check_graph.h"
#include "index/choose_code_dim.h"
#include "index/prepare_disk.h"
#include "quant/code_space.h"
#include "quant/score_bound.h"
#include "simd/kernels.h"
#include "util/monitor.h"
#include "util/thread_pool.h"

namespace bigrain {

namespace {

Buffer copy_of(const void* data, size_t bytes) {
  Buffer buffer(bytes);
  if (bytes != 0) std::memcpy(buffer.data(), data, bytes);
  return buffer;
}

uint32_t choose_entry(const graph::CodeDistances& distances, uint64_t count, Monitor& monitor) {
  constexpr uint32_t kPollEvery = 1u << 14;
  graph::Pivot pivot(distances.codes.stride);
  EntryChoice choice;
  for (uint32_t i = 0; i < count; ++i) {
    if (i % kPollEvery == 0) monitor.check();
    choice.offer(entry_value(distances, i, pivot), i);
  }
  return choice.point;
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
  check_build(vectors.rows, vectors.dim, params);
  if (ids != nullptr) check_ids({ids, vectors.rows});
  check_queries(vectors.dim, vectors.dtype, params.train_queries);
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
