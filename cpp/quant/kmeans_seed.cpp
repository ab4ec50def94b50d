// SPDX-License-Identifier: Apache-2.0
// Seeds of k-means, drawn in batches by squared distance to the seeds before.
#include <algorithm>
#include <array>
#include <limits>

#include "quant/kmeans_points.h"
#include "quant/nearest.h"
#include "simd/generic/nearest.h"
#include "util/rng.h"
#include "util/thread_pool.h"

namespace bigrain::quant {

namespace {

// So many batches, each of at least one seed: 16 centroids are drawn one by one (k-means++), 256
// eight at a time.
constexpr size_t kBatches = 32;
// Points that seeds are drawn from, per seed. 8, 32 and all gave the same error within noise.
constexpr size_t kPointsPerSeed = 32;
// Squared distances below this part of the squared norm are rounding: the point is a seed's copy.
constexpr float kNoise = 1e-6f;

class Seeder {
 public:
  Seeder(const CentredPoints& points, const simd::Kernels& kernels, const KMeansParams& params,
         Monitor& monitor)
      : points_(points),
        params_(params),
        monitor_(monitor),
        batch_(std::max<size_t>(params.clusters / kBatches, 1)),
        count_(std::min(points.count(), kPointsPerSeed * params.clusters)),
        nearest_(kernels, batch_, points.dim()),
        weights_(count_, std::numeric_limits<float>::infinity()),
        prefix_(count_),
        rng_(params.seed, params.stream) {}

  std::vector<float> run() {
    std::vector<float> seeds;
    seeds.reserve(params_.clusters * points_.dim());
    std::vector<size_t> drawn(batch_);
    for (size_t i = 0; i < batch_; ++i) drawn[i] = i;  // rows are in random order
    size_t made = 0;
    while (true) {
      drawn.resize(std::min(drawn.size(), params_.clusters - made));
      for (const size_t i : drawn)
        seeds.insert(seeds.end(), points_.row(i), points_.row(i) + points_.dim());
      const float* const latest = seeds.data() + made * points_.dim();
      made += drawn.size();
      if (made == params_.clusters) return seeds;
      update_weights(latest, drawn.size());
      drawn = draw();
      // Every point is a copy of a seed: the rest are copies too, and stay without points.
      if (drawn.empty()) drawn.assign(batch_, 0);
    }
  }

 private:
  void update_weights(const float* seeds, size_t count) {
    nearest_.set(seeds, count, {});
    const size_t columns = points_.columns();
    parallel_for(
        count_, kKMeansBlock, params_.threads, monitor_, [&](size_t begin, size_t end, uint32_t) {
          std::array<float, simd::kNearestMaxCols> scores;
          std::array<uint32_t, simd::kNearestMaxCols> ids;
          for (size_t i = begin; i < end; i += columns) {
            nearest_.find(points_.panel(i / columns), scores.data(), ids.data());
            for (size_t c = 0; c < std::min(columns, end - i); ++c) {
              const float square = points_.square(i + c), distance = square + 2 * scores[c];
              const float weight = distance > kNoise * square ? distance : 0.0f;
              weights_[i + c] = std::min(weights_[i + c], weight);
            }
          }
        });
  }

  // Up to a batch of different points, each with a probability proportional to its weight.
  std::vector<size_t> draw() {
    double total = 0;
    for (size_t i = 0; i < count_; ++i) prefix_[i] = total += static_cast<double>(weights_[i]);
    std::vector<size_t> drawn;
    if (!(total > 0)) return drawn;
    for (size_t attempt = 0; attempt < batch_; ++attempt) {
      const double target = static_cast<double>(rng_.next() >> 11) * 0x1p-53 * total;
      const size_t i = static_cast<size_t>(
          std::upper_bound(prefix_.begin(), prefix_.end(), target) - prefix_.begin());
      const size_t row = std::min(i, count_ - 1);
      if (std::find(drawn.begin(), drawn.end(), row) == drawn.end()) drawn.push_back(row);
    }
    return drawn;
  }

  const CentredPoints& points_;
  const KMeansParams& params_;
  Monitor& monitor_;
  size_t batch_, count_;
  NearestCentroid nearest_;
  std::vector<float> weights_;
  std::vector<double> prefix_;
  Rng rng_;
};

}  // namespace

std::vector<float> seed_centroids(const CentredPoints& points, const simd::Kernels& kernels,
                                  const KMeansParams& params, Monitor& monitor) {
  return Seeder(points, kernels, params, monitor).run();
}

}  // namespace bigrain::quant
