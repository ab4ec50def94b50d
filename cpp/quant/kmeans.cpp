// SPDX-License-Identifier: Apache-2.0
#include "quant/kmeans.h"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <string>

#include "bigrain/error.h"
#include "quant/kmeans_points.h"
#include "quant/nearest.h"
#include "simd/generic/nearest.h"
#include "util/rng.h"
#include "util/thread_pool.h"

namespace bigrain::quant {

namespace {

// The error's relative fall below which iterations end, on a part and on all points.
constexpr double kPartTolerance = 2e-3, kTolerance = 3e-4;
// The first part has so many points per cluster, the next ones kGrowth times as many.
constexpr size_t kFirstPart = 32, kGrowth = 4;
constexpr uint32_t kPartIterations = 10;
// Multiplications per task of an assignment: about a millisecond.
constexpr size_t kTaskProducts = size_t{1} << 26;
// Points per block of sums and cluster: the blocks' sums then take an eighth of the points' memory.
constexpr size_t kBlockPerCluster = 8;

// Sums of one block of points. Float is enough for a few thousand centred values.
struct Block {
  std::vector<float> sums;
  std::vector<double> errors;
  std::vector<uint32_t> counts;
};

class Lloyd {
 public:
  Lloyd(const Points& points, const KMeansParams& params, std::span<const float> start,
        Monitor& monitor)
      : params_(params),
        monitor_(monitor),
        kernels_(simd::active_kernels()),
        points_(points, kernels_, params.threads, monitor),
        k_(params.clusters),
        dim_(points.dim),
        block_rows_((kBlockPerCluster * k_ + kKMeansBlock / 2) / kKMeansBlock * kKMeansBlock),
        nearest_(kernels_, k_, dim_),
        ids_(points_.count()),
        errors_(points_.count()),
        cell_counts_(k_),
        cell_errors_(k_) {
    block_rows_ = std::max(block_rows_, kKMeansBlock);
    if (start.empty()) {
      centroids_ = seed_centroids(points_, kernels_, params, monitor);
      return;
    }
    centroids_.assign(start.begin(), start.end());
    for (size_t i = 0; i < centroids_.size(); ++i) centroids_[i] -= points_.centre()[i % dim_];
  }

  // Iterates on the first `rows` points; returns how often.
  uint32_t run(size_t rows, uint32_t iterations, double tolerance) {
    double before = std::numeric_limits<double>::infinity();
    for (uint32_t done = 0; done < iterations; ++done) {
      assign(rows);
      sum(rows);
      const double error = update(rows);
      error_ = error / static_cast<double>(rows);
      monitor_.advance(rows);
      if (before - error <= tolerance * error) return done + 1;
      before = error;
    }
    return iterations;
  }

  KMeansResult result(uint32_t iterations) {
    KMeansResult result{std::move(centroids_), error_, iterations, std::move(ids_)};
    for (size_t i = 0; i < result.centroids.size(); ++i)
      result.centroids[i] += points_.centre()[i % dim_];
    return result;
  }

 private:
  void assign(size_t rows) {
    nearest_.set(centroids_.data(), k_, {});
    const size_t columns = points_.columns(), panels = (rows + columns - 1) / columns;
    const size_t grain = std::max<size_t>(kTaskProducts / (k_ * dim_ * columns), 1);
    parallel_for(panels, grain, params_.threads, monitor_, [&](size_t begin, size_t end, uint32_t) {
      std::array<float, simd::kNearestMaxCols> scores;
      std::array<uint32_t, simd::kNearestMaxCols> ids;
      for (size_t p = begin; p < end; ++p) {
        nearest_.find(points_.panel(p), scores.data(), ids.data());
        const size_t first = p * columns, count = std::min(columns, rows - first);
        for (size_t c = 0; c < count; ++c) {
          ids_[first + c] = ids[c];
          errors_[first + c] = std::max(points_.square(first + c) + 2 * scores[c], 0.0f);
        }
      }
    });
  }

  void sum(size_t rows) {
    blocks_.resize((rows + block_rows_ - 1) / block_rows_);
    parallel_for(blocks_.size(), 1, params_.threads, monitor_, [&](size_t b, size_t, uint32_t) {
      Block& block = blocks_[b];
      block.sums.assign(k_ * dim_, 0.0f);
      block.errors.assign(k_, 0.0);
      block.counts.assign(k_, 0);
      for (size_t i = b * block_rows_; i < std::min(rows, (b + 1) * block_rows_); ++i) {
        const uint32_t id = ids_[i];
        const float* const row = points_.row(i);
        float* const to = block.sums.data() + id * dim_;
        for (size_t k = 0; k < dim_; ++k) to[k] += row[k];
        block.errors[id] += static_cast<double>(errors_[i]);
        ++block.counts[id];
      }
    });
  }

  // Centroids become the means of their cells; returns the error of the assignment.
  double update(size_t rows) {
    constexpr size_t kGrain = 64;
    parallel_for(k_, kGrain, params_.threads, monitor_, [&](size_t begin, size_t end, uint32_t) {
      std::vector<double> total(dim_);
      for (size_t j = begin; j < end; ++j) {
        std::fill(total.begin(), total.end(), 0.0);
        cell_counts_[j] = 0;
        cell_errors_[j] = 0;
        for (const Block& block : blocks_) {
          for (size_t k = 0; k < dim_; ++k)
            total[k] += static_cast<double>(block.sums[j * dim_ + k]);
          cell_counts_[j] += block.counts[j];
          cell_errors_[j] += block.errors[j];
        }
        if (cell_counts_[j] == 0) continue;
        for (size_t k = 0; k < dim_; ++k)
          centroids_[j * dim_ + k] =
              static_cast<float>(total[k] / static_cast<double>(cell_counts_[j]));
      }
    });
    const double error = std::accumulate(cell_errors_.begin(), cell_errors_.end(), 0.0);
    for (size_t j = 0; j < k_; ++j)
      if (cell_counts_[j] == 0 && !split_worst_cell(j, rows)) break;
    return error;
  }

  // Moves centroid j to the farthest point of the cell with the largest error; false where no cell
  // has any. Later calls of one update see the cell without that point.
  bool split_worst_cell(size_t j, size_t rows) {
    const auto worst = std::max_element(cell_errors_.begin(), cell_errors_.end());
    const uint32_t cell = static_cast<uint32_t>(worst - cell_errors_.begin());
    size_t farthest = rows;
    for (size_t i = 0; i < rows; ++i)
      if (ids_[i] == cell && (farthest == rows || errors_[i] > errors_[farthest])) farthest = i;
    if (farthest == rows || !(errors_[farthest] > kNoise * points_.square(farthest))) return false;
    std::copy_n(points_.row(farthest), dim_, centroids_.data() + j * dim_);
    cell_errors_[cell] -= static_cast<double>(errors_[farthest]);
    errors_[farthest] = 0;
    return true;
  }

  // Errors below this part of a squared norm are rounding.
  static constexpr float kNoise = 1e-6f;

  const KMeansParams& params_;
  Monitor& monitor_;
  const simd::Kernels& kernels_;
  CentredPoints points_;
  size_t k_, dim_, block_rows_;
  NearestCentroid nearest_;
  std::vector<float> centroids_;  // relative to the centre
  std::vector<uint32_t> ids_;     // per point
  std::vector<float> errors_;     // per point: its squared distance to centroid ids_[i]
  std::vector<Block> blocks_;
  std::vector<size_t> cell_counts_;
  std::vector<double> cell_errors_;
  double error_ = 0;
};

size_t first_part(size_t rows, size_t clusters) { return std::min(rows, kFirstPart * clusters); }

}  // namespace

std::vector<uint32_t> sample_rows(size_t rows, size_t most, uint64_t seed) {
  Rng rng(seed);
  std::vector<uint32_t> sample;
  sample.reserve(std::min(rows, most));
  // Selection sampling (Knuth, TAOCP volume 2, 3.4.2, algorithm S), then a shuffle.
  size_t missing = std::min(rows, most);
  for (size_t i = 0; i < rows && missing > 0; ++i) {
    if (missing < rows - i && rng.bounded(rows - i) >= missing) continue;
    sample.push_back(static_cast<uint32_t>(i));
    --missing;
  }
  shuffle(std::span<uint32_t>(sample), rng);
  return sample;
}

uint64_t kmeans_work(size_t rows, const KMeansParams& params) {
  uint64_t work = uint64_t{rows} * params.iterations;
  for (size_t part = first_part(rows, params.clusters); part < rows; part *= kGrowth)
    work += uint64_t{part} * kPartIterations;
  return work;
}

KMeansResult kmeans(const Points& points, const KMeansParams& params, std::span<const float> start,
                    Monitor& monitor) {
  const size_t rows = points.rows.size();
  if (params.clusters == 0 || rows < params.clusters) {
    throw Error::invalid("x: " + std::to_string(rows) + " rows for " +
                         std::to_string(params.clusters) +
                         " centroids; expected at least as many rows as centroids");
  }
  Lloyd lloyd(points, params, start, monitor);
  if (start.empty() && params.iterations > 0) {
    for (size_t part = first_part(rows, params.clusters); part < rows; part *= kGrowth)
      lloyd.run(part, kPartIterations, kPartTolerance);
  }
  return lloyd.result(lloyd.run(rows, params.iterations, kTolerance));
}

}  // namespace bigrain::quant
