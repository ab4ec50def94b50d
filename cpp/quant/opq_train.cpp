// SPDX-License-Identifier: Apache-2.0
// Training of the rotation (opq.h has the algorithm).
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "quant/eigen.h"
#include "quant/kmeans.h"
#include "quant/opq.h"
#include "quant/polar.h"
#include "util/elements.h"
#include "util/thread_pool.h"

namespace bigrain::quant {

namespace {

// Rows that the rotation is learned from: as many as an 8-bit codebook.
constexpr size_t kRotationRows = 65'536;
// Iterations of k-means before the first rotation.
constexpr uint32_t kFirstIterations = 10;
// How far a rotation goes beyond the last one, as a part of its way since: with 0.9 twenty
// alternations reach what fifty do without (bench/LOG.md, "opq"). 0.8 and 0.95 are a little worse.
constexpr float kMomentum = 0.9f;
// Rows that the covariance is estimated from, for a start only.
constexpr size_t kCovarianceRows = 8192;
// Smaller shares of the largest variance count as this one: rounding.
constexpr double kLeastVariance = 1e-7;
// Columns of X summed at once: a cache line. Sub-vectors at once: their sums, 16 KiB each, then
// fit a level-2 cache.
constexpr size_t kStrip = 16, kSubs = 32;

class RotationTrainer {
 public:
  RotationTrainer(const MatrixView& x, const PqShape& shape, const OpqParams& params,
                  Monitor& monitor)
      : shape_(shape), params_(params), monitor_(monitor), dim_(x.dim) {
    load(x);
    KMeansParams work;
    work.clusters = static_cast<uint32_t>(shape.centroids());
    work.iterations = kFirstIterations + params.rotations + params.pq.iterations;
    monitor.start(kmeans_work(rows_, work) * shape.subs);
    start();
  }

  TrainedRotation run() {
    std::vector<float> rotated(rows_ * shape_.dim), best(dim_ * shape_.dim), before;
    double last = std::numeric_limits<double>::infinity();
    for (uint32_t i = 0; i < params_.rotations; ++i) {
      rotate(rotated);
      const double error = update_codebooks(rotated, i == 0 ? kFirstIterations : 1);
      correlate(best.data());
      orthonormalise(best, rotation_);
      // Where the error grew, the step was too long: start again from rest.
      if (before.empty() || error > last) before = best;
      rotation_ = ahead_of(best, before);
      before = best;
      last = error;
    }
    rotate(rotated);
    update_codebooks(rotated, params_.pq.iterations);
    add_mean();
    return {std::move(rotation_), std::move(codebooks_)};
  }

 private:
  // A sample of x; centred, since codebooks hold the mean, unless columns are missing: the mean's
  // part outside them would be lost, so it counts as a direction.
  void load(const MatrixView& x) {
    const std::vector<uint32_t> rows = sample_rows(x.rows, kRotationRows, params_.pq.seed);
    rows_ = rows.size();
    x_.resize(rows_ * dim_);
    std::vector<double> mean(dim_);
    with_elements(x, [&](const auto* elements) {
      for (size_t i = 0; i < rows_; ++i) {
        for (size_t k = 0; k < dim_; ++k) {
          x_[i * dim_ + k] = to_float(elements[size_t{rows[i]} * dim_ + k]);
          mean[k] += static_cast<double>(x_[i * dim_ + k]);
        }
      }
    });
    mean_.assign(dim_, 0.0f);
    if (shape_.dim < dim_) return;
    for (size_t k = 0; k < dim_; ++k)
      mean_[k] = static_cast<float>(mean[k] / static_cast<double>(rows_));
    for (size_t i = 0; i < rows_; ++i)
      for (size_t k = 0; k < dim_; ++k) x_[i * dim_ + k] -= mean_[k];
  }

  // The parametric solution of Ge et al.: eigenvectors of the covariance, largest first, each to
  // the sub-vector with room left whose eigenvalues have the smallest product.
  void start() {
    const size_t sample = std::min(rows_, kCovarianceRows);
    const std::span<const float> head = std::span(x_).first(sample * dim_);
    std::vector<float> covariance(dim_ * dim_);
    PackedMatrix(head.data(), sample, dim_)
        .multiply(transposed(head, sample, dim_).data(), dim_, covariance.data(),
                  params_.pq.threads, monitor_);
    const Eigen eigen = eigen_of(std::move(covariance), dim_, monitor_);
    rotation_.assign(dim_ * shape_.dim, 0.0f);
    // Products as exponent and mantissa: they would overflow, and a logarithm's bits depend on the
    // machine's library.
    std::vector<std::pair<int, double>> products(shape_.subs, {1, 0.5});
    std::vector<size_t> used(shape_.subs);
    for (size_t i = 0; i < shape_.dim; ++i) {
      size_t to = shape_.subs;
      for (size_t sub = 0; sub < shape_.subs; ++sub)
        if (used[sub] < shape_.length(sub) && (to == shape_.subs || products[sub] < products[to]))
          to = sub;
      const size_t column = shape_.first(to) + used[to]++;
      // At least 1, also where nothing varies: a product must not fall as eigenvectors come in.
      const double share = eigen.values[i] / eigen.values[0];
      auto& [exponent, mantissa] = products[to];
      int shift = 0;
      mantissa = std::frexp(mantissa * std::max(1.0, share / kLeastVariance), &shift);
      exponent += shift;
      for (size_t k = 0; k < dim_; ++k)
        rotation_[k * shape_.dim + column] = eigen.vectors[i * dim_ + k];
    }
  }

  void rotate(std::vector<float>& rotated) const {
    PackedMatrix(rotation_.data(), dim_, shape_.dim)
        .multiply(x_.data(), rows_, rotated.data(), params_.pq.threads, monitor_);
  }

  void orthonormalise(std::vector<float>& x, const std::vector<float>& near) const {
    make_orthonormal(x, dim_, shape_.dim, near, params_.pq.threads, monitor_);
  }

  std::vector<float> ahead_of(const std::vector<float>& now,
                              const std::vector<float>& before) const {
    std::vector<float> ahead(now);
    for (size_t i = 0; i < ahead.size(); ++i) ahead[i] += kMomentum * (now[i] - before[i]);
    orthonormalise(ahead, now);
    return ahead;
  }

  // Codebooks of x - mean become those of x.
  void add_mean() {
    std::vector<float> shift(shape_.dim);
    PackedMatrix(rotation_.data(), dim_, shape_.dim)
        .multiply(mean_.data(), 1, shift.data(), 1, monitor_);
    float* value = codebooks_.data();
    for (size_t sub = 0; sub < shape_.subs; ++sub)
      for (size_t j = 0; j < shape_.centroids(); ++j)
        for (size_t t = 0; t < shape_.length(sub); ++t) *value++ += shift[shape_.first(sub) + t];
  }

  double update_codebooks(const std::vector<float>& rotated, uint32_t iterations) {
    const size_t k = shape_.centroids();
    std::vector<uint32_t> order(rows_);
    std::iota(order.begin(), order.end(), 0u);  // the sample is in random order
    KMeansParams means;
    means.clusters = static_cast<uint32_t>(k);
    means.iterations = iterations;
    means.seed = params_.pq.seed;
    means.threads = params_.pq.threads;
    const bool first = codebooks_.empty();
    codebooks_.resize(k * shape_.dim);
    codes_.resize(rows_ * shape_.subs);
    double error = 0;
    for (size_t sub = 0; sub < shape_.subs; ++sub) {
      const size_t length = shape_.length(sub);
      const std::span<float> book =
          std::span(codebooks_).subspan(k * shape_.first(sub), k * length);
      means.stream = sub + 1;
      const Points points{
          {rotated.data(), rows_, shape_.dim, Dtype::f32}, order, shape_.first(sub), length};
      const KMeansResult result =
          kmeans(points, means, first ? std::span<const float>() : book, monitor_);
      std::copy(result.centroids.begin(), result.centroids.end(), book.begin());
      for (size_t i = 0; i < rows_; ++i)
        codes_[i * shape_.subs + sub] = static_cast<uint8_t>(result.ids[i]);
      error += result.error;
    }
    return error;
  }

  // out (dim x shape.dim) = X' Z.
  void correlate(float* out) {
    const size_t strips = (dim_ + kStrip - 1) / kStrip;
    parallel_for(strips, 1, params_.pq.threads, monitor_, [&](size_t s, size_t, uint32_t) {
      std::vector<float> strip(rows_ * kStrip);
      const size_t first = s * kStrip, count = std::min(kStrip, dim_ - first);
      for (size_t i = 0; i < rows_; ++i)
        std::copy_n(x_.data() + i * dim_ + first, count, strip.data() + i * kStrip);
      for (size_t sub = 0; sub < shape_.subs; sub += kSubs)
        correlate_subs(strip, sub, std::min(shape_.subs, sub + kSubs), count,
                       out + first * shape_.dim);
    });
  }

  // The rows of X' Z that belong to one strip, and its columns of the subs [begin, end).
  void correlate_subs(const std::vector<float>& strip, size_t begin, size_t end, size_t count,
                      float* out) const {
    const size_t k = shape_.centroids();
    std::vector<float> sums((end - begin) * k * kStrip);
    for (size_t i = 0; i < rows_; ++i) {
      const float* const row = strip.data() + i * kStrip;
      const uint8_t* const codes = codes_.data() + i * shape_.subs;
      for (size_t sub = begin; sub < end; ++sub) {
        float* const to = sums.data() + ((sub - begin) * k + codes[sub]) * kStrip;
        for (size_t c = 0; c < kStrip; ++c) to[c] += row[c];
      }
    }
    for (size_t sub = begin; sub < end; ++sub) {
      const float* const book = codebooks_.data() + k * shape_.first(sub);
      const float* const sum = sums.data() + (sub - begin) * k * kStrip;
      for (size_t t = 0; t < shape_.length(sub); ++t) {
        std::array<float, kStrip> total{};
        for (size_t j = 0; j < k; ++j)
          for (size_t c = 0; c < kStrip; ++c)
            total[c] += sum[j * kStrip + c] * book[j * shape_.length(sub) + t];
        for (size_t c = 0; c < count; ++c) out[c * shape_.dim + shape_.first(sub) + t] = total[c];
      }
    }
  }

  const PqShape& shape_;
  const OpqParams& params_;
  Monitor& monitor_;
  size_t dim_, rows_ = 0;
  std::vector<float> x_, mean_, rotation_, codebooks_;
  std::vector<uint8_t> codes_;  // rows x subs
};

}  // namespace

TrainedRotation train_rotation(const MatrixView& x, const PqShape& shape, const OpqParams& params,
                               Monitor& monitor) {
  return RotationTrainer(x, shape, params, monitor).run();
}

}  // namespace bigrain::quant
