// SPDX-License-Identifier: Apache-2.0
#include "index/disk_build/router.h"

#include <algorithm>

#include "index/disk_build/budget.h"
#include "quant/kmeans.h"
#include "quant/scalar8.h"
#include "util/thread_pool.h"

namespace bigrain::disk_build {

namespace {

// Shards are planned to be this full; the rest is for what the sample cannot tell, and past
// kOverfull a centre is split.
constexpr double kFill = 0.7, kOverfull = 0.9;
constexpr size_t kMostRounds = 10;
// Fewer sampled points are not split: they would not halve.
constexpr size_t kLeastToSplit = 16;
// Centres need to be in the right places, no more.
constexpr uint32_t kIterations = 6;
constexpr uint64_t kStream = 0x5348415244;  // of random numbers: "SHARD"

// Sample and centres, as they are refined.
class Centres {
 public:
  Centres(const std::vector<float>& mapped, size_t dim, const RouterParams& params,
          const simd::Kernels& kernels, Monitor& monitor)
      : mapped_(mapped),
        dim_(dim),
        rows_(mapped.size() / dim),
        params_(params),
        kernels_(kernels),
        monitor_(monitor),
        order_(quant::sample_rows(rows_, rows_, params.seed)) {}

  Router make() {
    const double wanted = static_cast<double>(kCopies * params_.points) /
                          (kFill * static_cast<double>(params_.shard_points));
    // As many as there are copies would all hold everything.
    const size_t count =
        std::clamp<size_t>(static_cast<size_t>(wanted) + 1, kCopies + 1, kMostShards);
    centres_ = cluster(order_, std::min(count, rows_), 0);
    for (size_t round = 1;; ++round) {
      Router router = current();
      route_sample(router);
      if (round > kMostRounds || !split(round)) return router;
    }
  }

 private:
  std::vector<float> cluster(std::span<const uint32_t> rows, size_t count, uint64_t stream) {
    const MatrixView x{mapped_.data(), rows_, dim_, Dtype::f32};
    const quant::KMeansParams params{.clusters = static_cast<uint32_t>(count),
                                     .iterations = kIterations,
                                     .seed = params_.seed,
                                     .stream = kStream + stream,
                                     .threads = params_.threads};
    return quant::kmeans({x, rows, 0, dim_}, params, {}, monitor_).centroids;
  }

  Router current() const {
    const size_t stride = code_stride(static_cast<uint32_t>(dim_));
    Buffer records(centres_.size() / dim_ * stride);
    for (size_t i = 0; i < centres_.size() / dim_; ++i) {
      quant::encode(std::span(centres_).subspan(i * dim_, dim_), Metric::l2, stride,
                    records.data() + i * stride);
    }
    return {std::move(records), stride, kernels_.score_codes};
  }

  void route_sample(const Router& router) {
    const size_t stride = code_stride(static_cast<uint32_t>(dim_));
    choices_.resize(rows_ * kChoices);
    parallel_for(rows_, 256, params_.threads, monitor_, [&](size_t begin, size_t end, uint32_t) {
      Router::Scratch scratch;
      Buffer record(stride);
      for (size_t i = begin; i < end; ++i) {
        quant::encode(std::span(mapped_).subspan(i * dim_, dim_), Metric::l2, stride,
                      record.data());
        router.route(record.data(), scratch, &choices_[i * kChoices]);
      }
    });
  }

  // Splits every centre whose shard would overflow; false if there is none.
  bool split(size_t round) {
    const size_t count = centres_.size() / dim_;
    std::vector<size_t> loads(count);
    for (size_t i = 0; i < rows_; ++i) {
      for (size_t c = 0; c < kCopies; ++c) ++loads[choices_[i * kChoices + c]];
    }
    const double limit = kOverfull * static_cast<double>(params_.shard_points) *
                         static_cast<double>(rows_) / static_cast<double>(params_.points);
    bool any = false;
    for (size_t shard = 0; shard < count; ++shard) {
      if (static_cast<double>(loads[shard]) <= limit || centres_.size() / dim_ >= kMostShards) {
        continue;
      }
      std::vector<uint32_t> members;
      for (const uint32_t row : order_) {
        if (choices_[row * kChoices] == shard) members.push_back(row);
      }
      if (members.size() < kLeastToSplit) continue;
      const std::vector<float> two = cluster(members, 2, round * kMostShards + shard);
      std::copy_n(two.begin(), dim_, centres_.begin() + static_cast<ptrdiff_t>(shard * dim_));
      centres_.insert(centres_.end(), two.begin() + static_cast<ptrdiff_t>(dim_), two.end());
      any = true;
    }
    return any;
  }

  const std::vector<float>& mapped_;
  size_t dim_, rows_;
  const RouterParams& params_;
  const simd::Kernels& kernels_;
  Monitor& monitor_;
  std::vector<uint32_t> order_;
  std::vector<float> centres_;
  std::vector<uint16_t> choices_;
};

}  // namespace

Router::Router(Buffer centres, size_t stride, simd::ScoreCodesFn score_codes)
    : centres_(std::move(centres)),
      stride_(stride),
      score_codes_(score_codes),
      numbers_(centres_.size() / stride) {
  for (size_t i = 0; i < numbers_.size(); ++i) numbers_[i] = static_cast<uint32_t>(i);
}

float Router::route(const std::byte* record, Scratch& scratch, uint16_t* choices) const {
  if (scratch.query.size() == 0) scratch.query = Buffer(stride_);
  scratch.scores.resize(count());
  float offset = 0;
  const simd::CodeQuery query = quant::prepare_record(
      record, stride_, reinterpret_cast<int8_t*>(scratch.query.data()), &offset);
  score_codes_(query, centres_.data(), stride_, numbers_.data(), count(), scratch.scores.data());
  const size_t wanted = std::min(kChoices, count());
  size_t kept = 0;
  for (const uint32_t number : numbers_) {
    const float score = scratch.scores[number];
    if (kept == wanted && !(score < scratch.scores[choices[kept - 1]])) continue;
    size_t at = kept < wanted ? kept++ : kept - 1;
    for (; at > 0 && score < scratch.scores[choices[at - 1]]; --at) choices[at] = choices[at - 1];
    choices[at] = static_cast<uint16_t>(number);
  }
  return scratch.scores[choices[0]];
}

Router make_router(const std::vector<float>& mapped, size_t dim, const RouterParams& params,
                   const simd::Kernels& kernels, Monitor& monitor) {
  if (params.points <= params.shard_points) {
    return {Buffer(code_stride(static_cast<uint32_t>(dim))),
            code_stride(static_cast<uint32_t>(dim)), kernels.score_codes};
  }
  return Centres(mapped, dim, params, kernels, monitor).make();
}

}  // namespace bigrain::disk_build
