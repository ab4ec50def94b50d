// SPDX-License-Identifier: Apache-2.0
#include "index/choose_code_dim.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include "bigrain/exact.h"
#include "quant/code_space.h"
#include "quant/principal.h"
#include "quant/projection.h"
#include "util/thread_pool.h"

namespace bigrain {

namespace {

// Below this many points everything is near: nothing to win, and no sample to measure on.
constexpr uint64_t kLeastPoints = 4'096;
// The second moments of more dimensions take longer to make than shorter codes would save.
constexpr uint32_t kMostDim = 4'096;
// Code records of 1 to 6 cache lines are tried, and only if they save a quarter of the dimensions.
constexpr uint32_t kMostLines = 6;
constexpr uint32_t kLineBytes = 64, kConstantBytes = 8;
// Floats in the sample that the directions come from, and its bounds in rows.
constexpr size_t kSampleFloats = size_t{1} << 22, kLeastRows = 1'024, kMostRows = 8'192;
// Who looks for neighbours, among how many points, and for how many of them.
constexpr size_t kAskers = 256, kPool = 16'384;
// The share of true neighbours that must be among the candidates.
constexpr double kTrialRecall = 0.98;
// A search at recall .95 of the sets in bench/LOG.md scores about 400 codes and reads, for each,
// a line of graph and visited set beside the code; reading a full vector is a new address and an
// exact distance, worth 2 lines more than its length. Codes that need twice as many candidates for
// kTrialK neighbours were seen to need a wider walk, too: 30 % more codes.
constexpr double kCodesPerQuery = 400, kLinesBesideCode = 1, kLinesBesideVector = 2;
constexpr double kWiderWalk = 0.3;

std::vector<uint32_t> candidate_dims(uint32_t dim) {
  std::vector<uint32_t> dims;
  for (uint32_t lines = 1; lines <= kMostLines; ++lines) {
    const uint32_t code_dim = lines * kLineBytes - kConstantBytes;
    if (code_dim <= dim - dim / 4 && code_dim < dim) dims.push_back(code_dim);
  }
  return dims;
}

const std::byte* row_of(const IndexParts& parts, size_t i) {
  return parts.vectors.data() + i * parts.meta.dim * item_size(parts.meta.dtype);
}

// Every n-th row, centred, as float.
std::vector<float> centred_sample(const IndexParts& parts, size_t rows) {
  const size_t dim = parts.meta.dim;
  std::vector<float> sample(rows * dim);
  for (size_t r = 0; r < rows; ++r) {
    quant::load_centred(parts, row_of(parts, r * parts.meta.count / rows),
                        std::span(sample).subspan(r * dim, dim));
  }
  return sample;
}

quant::PrincipalDirections find_directions(const IndexParts& parts, size_t count,
                                           const simd::Kernels& kernels, uint32_t threads,
                                           Monitor& monitor) {
  const size_t dim = parts.meta.dim;
  const size_t rows =
      std::min<size_t>(parts.meta.count, std::clamp(kSampleFloats / dim, kLeastRows, kMostRows));
  return quant::principal_directions(centred_sample(parts, rows), dim, count, kernels, threads,
                                     monitor);
}

// Who looks for neighbours: queries, or points, and what they truly find.
struct Askers {
  std::vector<float> vectors;                     // one centred row each
  std::vector<std::vector<uint32_t>> neighbours;  // kTrialK or fewer
  std::vector<uint32_t> own;                      // the point itself, or kNobody

  static constexpr uint32_t kNobody = 0xffffffffu;
  size_t size() const { return neighbours.size(); }
};

// The rows of `from` that ask, evenly spread, in the type that exact_search wants.
Buffer take_rows(const MatrixView& from, size_t rows, Dtype asked, size_t dim) {
  Buffer taken(rows * dim * item_size(asked));
  const size_t bytes = dim * item_size(from.dtype);
  for (size_t q = 0; q < rows; ++q) {
    const void* row = from.row(q * from.rows / rows);
    std::byte* to = taken.data() + q * dim * item_size(asked);
    if (asked == from.dtype) {
      std::memcpy(to, row, bytes);
    } else {
      quant::load_vector(row, from.dtype, {reinterpret_cast<float*>(to), dim});
    }
  }
  return taken;
}

Askers find_askers(const IndexParts& parts, const MatrixView& queries, uint32_t threads,
                   Monitor& monitor) {
  const size_t dim = parts.meta.dim;
  const MatrixView base{parts.vectors.data(), parts.meta.count, dim, parts.meta.dtype};
  const bool own = queries.rows == 0;
  const MatrixView& from = own ? base : queries;
  const size_t count = std::min<size_t>(kAskers, from.rows);
  const Dtype dtype = base.dtype == Dtype::f16 ? Dtype::f32 : base.dtype;
  const Buffer rows = take_rows(from, count, dtype, dim);
  const uint32_t k = kTrialK + (own ? 1 : 0);
  std::vector<int64_t> ids(count * k);
  std::vector<float> distances(count * k);
  // Polled, but without a progress of its own: a bar counts the points of the build.
  Monitor quiet([&monitor](uint64_t, uint64_t) {
    monitor.check_now();
    return true;
  });
  exact_search(base, {rows.data(), count, dim, dtype}, parts.meta.metric, k, threads, ids.data(),
               distances.data(), quiet);
  Askers askers;
  askers.vectors.resize(count * dim);
  askers.neighbours.resize(count);
  for (size_t q = 0; q < count; ++q) {
    quant::load_centred(parts.meta, dtype, parts.mean.as<float>(),
                        rows.data() + q * dim * item_size(dtype),
                        std::span(askers.vectors).subspan(q * dim, dim));
    askers.own.push_back(own ? static_cast<uint32_t>(q * from.rows / count) : Askers::kNobody);
    for (size_t i = 0; i < k && askers.neighbours[q].size() < kTrialK; ++i) {
      const int64_t id = ids[q * k + i];
      if (id < 0 || id == int64_t{askers.own[q]}) continue;
      askers.neighbours[q].push_back(static_cast<uint32_t>(id));
    }
  }
  return askers;
}

// How deep true neighbours lie in the order of their leading components, among a sample of points.
class Trial {
 public:
  Trial(const IndexParts& parts, const quant::PrincipalDirections& directions,
        const simd::Kernels& kernels)
      : parts_(parts),
        directions_(directions),
        minus_dot_(kernels.distance_of(Metric::ip, Dtype::f32)),
        partial_(parts.meta.metric == Metric::ip ? minus_dot_
                                                 : kernels.distance_of(Metric::l2, Dtype::f32)),
        dim_(parts.meta.dim),
        most_(directions.vectors.size() / parts.meta.dim),
        rows_(std::min<size_t>(parts.meta.count, kPool)) {}

  // Candidates to rank for kTrialRecall, by code dimension.
  std::vector<float> run(const Askers& askers, const std::vector<uint32_t>& dims, uint32_t threads,
                         Monitor& monitor) {
    pool_.resize(rows_ * most_);
    parallel_for(rows_, 8, threads, monitor, [&](size_t begin, size_t end, uint32_t) {
      for (size_t r = begin; r < end; ++r) {
        const std::vector<float> y = project_point(point_of(r));
        std::copy(y.begin(), y.end(), &pool_[r * most_]);
      }
    });
    std::vector<std::vector<float>> depths(dims.size());
    for (auto& depth : depths) depth.resize(askers.size() * kTrialK);
    parallel_for(askers.size(), 1, threads, monitor, [&](size_t begin, size_t end, uint32_t) {
      for (size_t q = begin; q < end; ++q) find_depths(askers, q, dims, depths);
    });
    std::vector<float> result;
    for (auto& depth : depths) {
      std::sort(depth.begin(), depth.end());
      const auto at = static_cast<size_t>(kTrialRecall * static_cast<double>(depth.size() - 1));
      result.push_back(depth[at]);
    }
    return result;
  }

 private:
  uint32_t point_of(size_t row) const {
    return static_cast<uint32_t>(row * parts_.meta.count / rows_);
  }

  std::vector<float> project(std::span<const float> x) const {
    std::vector<float> y(most_);
    for (size_t j = 0; j < most_; ++j) {
      y[j] = -minus_dot_(&directions_.vectors[j * dim_], x.data(), dim_);
    }
    return y;
  }

  std::vector<float> project_point(uint32_t point) const {
    std::vector<float> x(dim_);
    quant::load_centred(parts_, row_of(parts_, point), x);
    return project(x);
  }

  // depths[trial][q * kTrialK + i]: how many candidates it takes to have the i-th true neighbour.
  void find_depths(const Askers& askers, size_t q, const std::vector<uint32_t>& dims,
                   std::vector<std::vector<float>>& depths) const {
    const std::vector<float> y = project(std::span(askers.vectors).subspan(q * dim_, dim_));
    const std::vector<uint32_t>& wanted = askers.neighbours[q];
    std::vector<std::vector<float>> near_rows;
    for (uint32_t id : wanted) near_rows.push_back(project_point(id));
    std::vector<float> others(rows_), near(wanted.size());
    for (size_t r = 0; r < rows_; ++r) {  // neither the asker nor what it wants is in its own way
      const uint32_t point = point_of(r);
      if (point == askers.own[q] || std::count(wanted.begin(), wanted.end(), point) != 0) {
        others[r] = std::numeric_limits<float>::infinity();
      }
    }
    const double points_per_row =
        static_cast<double>(parts_.meta.count) / static_cast<double>(rows_);
    size_t from = 0;
    for (size_t trial = 0; trial < dims.size(); ++trial) {
      const size_t to = dims[trial];
      for (size_t r = 0; r < rows_; ++r) {
        others[r] += partial_(&y[from], &pool_[r * most_ + from], to - from);
      }
      for (size_t i = 0; i < wanted.size(); ++i) {
        near[i] += partial_(&y[from], &near_rows[i][from], to - from);
      }
      from = to;
      for (size_t i = 0; i < wanted.size(); ++i) {
        size_t before = 0;
        for (float other : others) before += other < near[i] ? 1 : 0;
        depths[trial][q * kTrialK + i] =
            static_cast<float>(kTrialK + points_per_row * static_cast<double>(before));
      }
    }
  }

  const IndexParts& parts_;
  const quant::PrincipalDirections& directions_;
  simd::DistanceFn minus_dot_;
  simd::DistanceFn partial_;  // of a score, over some of the dimensions: they add up
  size_t dim_, most_, rows_;
  std::vector<float> pool_;  // rows_ x most_
};

float cost_of(const IndexParts& parts, uint32_t code_dim, float rerank) {
  const double vector_lines =
      static_cast<double>(parts.meta.dim * item_size(parts.meta.dtype)) / kLineBytes;
  const double code_lines = code_stride(code_dim) / kLineBytes;
  const double codes = kCodesPerQuery * (1 + kWiderWalk * (rerank / kTrialK - 1));
  return static_cast<float>(codes * (code_lines + kLinesBesideCode) +
                            rerank * (vector_lines + kLinesBesideVector));
}

}  // namespace

void choose_code_dim(IndexParts& parts, uint32_t wanted, const MatrixView& train_queries,
                     const simd::Kernels& kernels, uint32_t threads, Monitor& monitor) {
  IndexMeta& meta = parts.meta;
  meta.code_dim = wanted != 0 ? wanted : meta.dim;
  std::vector<uint32_t> dims;
  if (wanted == 0 && meta.count >= kLeastPoints && meta.dim <= kMostDim) {
    dims = candidate_dims(meta.dim);
  }
  if (wanted != 0 && wanted < meta.dim) dims.push_back(wanted);
  if (dims.empty()) return quant::set_rotation(parts);
  const quant::PrincipalDirections directions =
      find_directions(parts, dims.back(), kernels, threads, monitor);
  if (wanted == 0) {
    const Askers askers = find_askers(parts, train_queries, threads, monitor);
    const std::vector<float> reranks =
        Trial(parts, directions, kernels).run(askers, dims, threads, monitor);
    for (size_t i = 0; i < dims.size(); ++i) {
      parts.trials.push_back({dims[i], reranks[i], cost_of(parts, dims[i], reranks[i])});
    }
    parts.trials.push_back({meta.dim, kTrialK, cost_of(parts, meta.dim, kTrialK)});
    meta.code_dim = std::min_element(parts.trials.begin(), parts.trials.end(),
                                     [](const CodeDimTrial& a, const CodeDimTrial& b) {
                                       return a.cost < b.cost;
                                     })
                        ->code_dim;
  }
  if (meta.code_dim == meta.dim) return quant::set_rotation(parts);
  quant::set_projection(parts, directions, kernels);
}

}  // namespace bigrain
