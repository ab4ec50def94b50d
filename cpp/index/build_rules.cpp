// SPDX-License-Identifier: Apache-2.0
#include "index/build_rules.h"

#include <algorithm>
#include <string>
#include <vector>

#include "bigrain/error.h"
#include "quant/scalar8.h"

namespace bigrain {

namespace {

template <class T>
void check_range(const char* name, T value, T low, T high) {
  if (value >= low && value <= high) return;
  throw Error::invalid(std::string(name) + ": got " + std::to_string(value) + "; expected " +
                       std::to_string(low) + " to " + std::to_string(high));
}

}  // namespace

float alpha_of(const BuildParams& params) {
  const bool inner_product = params.metric == Metric::ip;
  if (params.alpha == 0) return inner_product ? kDefaultAlphaIp : kDefaultAlpha;
  check_range("alpha", params.alpha, kMinAlpha, inner_product ? kMaxAlphaIp : kMaxAlpha);
  return params.alpha;
}

void check_build(uint64_t rows, uint64_t dim, const BuildParams& params) {
  check_range<uint64_t>("vectors: dimension", dim, kMinDim, kMaxDim);
  check_range<uint64_t>("vectors: number of rows", rows, 0, kMaxPoints);
  if (params.degree != 0) check_range("degree", params.degree, kMinDegree, kMaxDegree);
  check_range("build_width", params.build_width, kMinBuildWidth, kMaxBuildWidth);
  check_range("threads", params.threads, 0u, kMaxThreads);
  check_range("pq_bytes", params.pq_bytes, 0u, static_cast<uint32_t>(dim));
  check_range("code_dim", params.code_dim, 0u, static_cast<uint32_t>(dim));
}

void check_queries(uint64_t dim, Dtype dtype, const MatrixView& queries) {
  if (queries.rows == 0) return;
  const Dtype expected = dtype == Dtype::f16 ? Dtype::f32 : dtype;
  if (queries.dim == dim && queries.dtype == expected) return;
  throw Error::invalid("train_queries: got dimension " + std::to_string(queries.dim) + " of " +
                       name_of(queries.dtype) + "; expected " + std::to_string(dim) + " of " +
                       name_of(expected) + ", as searches will ask");
}

void check_ids(std::span<const int64_t> ids) {
  std::vector<int64_t> sorted(ids.begin(), ids.end());
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

float entry_value(const graph::CodeDistances& distances, uint32_t point, graph::Pivot& pivot) {
  if (!distances.inner_product) {
    return quant::constants_of(distances.codes.record(point), distances.codes.stride).bias;
  }
  float value = 0;
  pivot.set(distances, point);
  pivot.distances_to(distances, std::span(&point, 1), &value);
  return value;
}

}  // namespace bigrain
