// SPDX-License-Identifier: Apache-2.0
#include "index/choose_code_dim.h"

#include <algorithm>
#include <cmath>
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
// Code records of 1 to 8 cache lines are tried, and only if they save a quarter of the dimensions.
constexpr uint32_t kMostLines = 8;
constexpr uint32_t kLineBytes = 64, kConstantBytes = 8;
// Floats in the sample that the directions come from, and its bounds in rows.
constexpr size_t kSampleFloats = size_t{1} << 22, kLeastRows = 1'024, kMostRows = 8'192;
// Who looks for neighbours, among how many points, and for how many of them.
constexpr size_t kAskers = 128, kPool = 8'192;
// The share of true neighbours that must be among the candidates.
constexpr double kTrialRecall = 0.98;
// A search at recall .95 of the sets in bench/LOG.md scores about 400 codes and reads, for each,
// half a line of graph and visited set beside the code; reading a full vector is a new address and
// an exact distance, worth 2 lines more than its length.
constexpr double kCodesPerQuery = 400, kLinesBesideCode = 1.0, kLinesBesideVector = 2;

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

// How deep true neighbours lie in the order of their leading components.
class Trial {
 public:
  Trial(const IndexParts& parts, const quant::PrincipalDirections& directions,
        const simd::Kernels& kernels, uint32_t threads, Monitor& monitor)
      : parts_(parts),
        directions_(directions),
        minus_dot_(kernels.distance_of(Metric::ip, Dtype::f32)),
        threads_(threads),
        monitor_(monitor),
        dim_(parts.meta.dim),
        most_(directions.vectors.size() / parts.meta.dim) {}

  // Candidates to rank for kTrialRecall, by code dimension.
  std::vector<float> run(const MatrixView& queries, const std::vector<uint32_t>& dims) {
    ask(queries);
    make_pool();
    std::vector<std::vector<float>> depths(dims.size());
    for (auto& depth : depths) depth.resize(askers_ * kTrialK);
    parallel_for(askers_, 1, threads_, monitor_, [&](size_t begin, size_t end, uint32_t) {
      for (size_t q = begin; q < end; ++q) find_depths(q, dims, depths);
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
  // True neighbours of the queries, or of points, which are no neighbours of themselves.
  void ask(const MatrixView& queries) {
    const bool own = queries.rows == 0;
    const size_t available = own ? parts_.meta.count : queries.rows;
    askers_ = std::min(kAskers, available);
    const size_t bytes = dim_ * item_size(parts_.meta.dtype);
    const uint32_t k = kTrialK + (own ? 1 : 0);
    std::vector<int64_t> ids(askers_ * k);
    std::vector<float> distances(askers_ * k);
    std::vector<std::byte> rows;
    std::vector<size_t> numbers;
    std::vector<float> floats;
    for (size_t q = 0; q < askers_; ++q) numbers.push_back(q * available / askers_);
    MatrixView asked{nullptr, askers_, dim_, parts_.meta.dtype};
    asker_vectors_.resize(askers_ * dim_);
    for (size_t q = 0; q < askers_; ++q) {
      const auto* row =
          own ? row_of(parts_, numbers[q]) : static_cast<const std::byte*>(queries.row(numbers[q]));
      rows.insert(rows.end(), row, row + (own ? bytes : dim_ * item_size(queries.dtype)));
      load_asker(row, own ? parts_.meta.dtype : queries.dtype, q);
    }
    if (!own) asked.dtype = queries.dtype;
    asked.data = rows.data();
    if (own && parts_.meta.dtype == Dtype::f16) {  // exact search asks them with float32
      floats.resize(askers_ * dim_);
      for (size_t q = 0; q < askers_; ++q) {
        quant::load_vector(rows.data() + q * bytes, Dtype::f16,
                           std::span(floats).subspan(q * dim_, dim_));
      }
      asked.data = floats.data();
      asked.dtype = Dtype::f32;
    }
    const MatrixView base{parts_.vectors.data(), parts_.meta.count, dim_, parts_.meta.dtype};
    exact_search(base, asked, parts_.meta.metric, k, threads_, ids.data(), distances.data(),
                 monitor_);
    for (size_t q = 0; q < askers_; ++q) {
      std::vector<uint32_t> found;
      for (size_t i = 0; i < k; ++i) {
        const int64_t id = ids[q * k + i];
        if (id < 0 || (own && static_cast<size_t>(id) == numbers[q])) continue;
        if (found.size() < kTrialK) found.push_back(static_cast<uint32_t>(id));
      }
      neighbours_.push_back(std::move(found));
    }
  }

  void load_asker(const std::byte* row, Dtype dtype, size_t q) {
    IndexMeta meta = parts_.meta;
    const std::span<float> out = std::span(asker_vectors_).subspan(q * dim_, dim_);
    quant::load_centred(meta, dtype, parts_.mean.as<float>(), row, out);
  }

  std::vector<float> project(std::span<const float> x) const {
    std::vector<float> y(most_);
    for (size_t j = 0; j < most_; ++j) {
      y[j] = -minus_dot_(&directions_.vectors[j * dim_], x.data(), dim_);
    }
    return y;
  }

  void make_pool() {
    const size_t rows = std::min<size_t>(parts_.meta.count, kPool);
    pool_.resize(rows * most_);
    parallel_for(rows, 8, threads_, monitor_, [&](size_t begin, size_t end, uint32_t) {
      for (size_t r = begin; r < end; ++r) {
        const std::vector<float> y = project_row(r * parts_.meta.count / rows);
        std::copy(y.begin(), y.end(), &pool_[r * most_]);
      }
    });
  }

  std::vector<float> project_row(size_t row) const {
    std::vector<float> x(dim_);
    quant::load_centred(parts_, row_of(parts_, row), x);
    return project(x);
  }

  // Adds the part of the distance that lies in dimensions [from, to).
  float partial(const float* a, const float* b, size_t from, size_t to) const {
    float total = 0;
    if (parts_.meta.metric == Metric::ip) {
      for (size_t j = from; j < to; ++j) total -= a[j] * b[j];
    } else {
      for (size_t j = from; j < to; ++j) total += (a[j] - b[j]) * (a[j] - b[j]);
    }
    return total;
  }

  void find_depths(size_t q, const std::vector<uint32_t>& dims,
                   std::vector<std::vector<float>>& depths) const {
    const std::vector<float> y = project(std::span(asker_vectors_).subspan(q * dim_, dim_));
    const size_t rows = pool_.size() / most_, wanted = neighbours_[q].size();
    const double points_per_row =
        static_cast<double>(parts_.meta.count) / static_cast<double>(rows);
    std::vector<float> others(rows), near(wanted);
    std::vector<std::vector<float>> true_ones;
    for (uint32_t id : neighbours_[q]) true_ones.push_back(project_row(id));
    size_t from = 0;
    for (size_t trial = 0; trial < dims.size(); ++trial) {
      const size_t to = dims[trial];
      for (size_t r = 0; r < rows; ++r) others[r] += partial(y.data(), &pool_[r * most_], from, to);
      for (size_t i = 0; i < wanted; ++i) {
        near[i] += partial(y.data(), true_ones[i].data(), from, to);
      }
      from = to;
      std::vector<float> sorted(others);
      std::sort(sorted.begin(), sorted.end());
      for (size_t i = 0; i < kTrialK; ++i) {
        const float distance = i < wanted ? near[i] : 0;
        const auto before = std::lower_bound(sorted.begin(), sorted.end(), distance);
        depths[trial][q * kTrialK + i] = static_cast<float>(
            kTrialK + points_per_row * static_cast<double>(before - sorted.begin()));
      }
    }
  }

  const IndexParts& parts_;
  const quant::PrincipalDirections& directions_;
  simd::DistanceFn minus_dot_;
  uint32_t threads_;
  Monitor& monitor_;
  size_t dim_, most_, askers_ = 0;
  std::vector<float> asker_vectors_, pool_;
  std::vector<std::vector<uint32_t>> neighbours_;
};

float cost_of(const IndexParts& parts, uint32_t code_dim, float rerank) {
  const double vector_lines =
      static_cast<double>(parts.meta.dim * item_size(parts.meta.dtype)) / kLineBytes;
  const double code_lines = code_stride(code_dim) / kLineBytes;
  return static_cast<float>(kCodesPerQuery * (code_lines + kLinesBesideCode) +
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
    const std::vector<float> reranks =
        Trial(parts, directions, kernels, threads, monitor).run(train_queries, dims);
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
