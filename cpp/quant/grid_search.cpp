// SPDX-License-Identifier: Apache-2.0
#include "quant/grid_search.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace bigrain::quant {

namespace {

// The step of the uniform quantizer with 2^bits levels that has the least squared error on a unit
// Gaussian (Max, "Quantizing for minimum distortion", IRE Trans. 1960, which tables up to 36
// levels; computed here to 256).
constexpr float kGaussianStep[kMaxGridBits + 1] = {0,       1.5958f, 0.9957f, 0.5860f, 0.3352f,
                                                   0.1881f, 0.1041f, 0.0569f, 0.0308f};
// Vectors of so few coordinates, or breakpoints, are searched completely: their best scale may lie
// anywhere.
constexpr size_t kFewCoordinates = 16, kFewEvents = 1024;
// Longer vectors: of 2,200 Gaussian ones (d=17 to 784, 3 to 8 bits) every best scale lay within
// 0.62 and 1.05 of these bounds' units; the window holds a tenth of the breakpoints of 8 bits.
constexpr float kBelow = 0.6f, kAbove = 1.4f, kClipped = 1.1f;
// A vector whose largest coordinate is this much longer than a Gaussian's would be at any
// dimension: the window then reaches down to where that coordinate alone decides.
constexpr float kOutlier = 3.0f;

uint64_t event_of(float t, uint32_t index) {
  return uint64_t{std::bit_cast<uint32_t>(t)} << 32 | index;  // positive floats sort as integers
}
float time_of(uint64_t event) { return std::bit_cast<float>(static_cast<uint32_t>(event >> 32)); }
uint32_t index_of(uint64_t event) { return static_cast<uint32_t>(event); }

}  // namespace

// In units in which the largest magnitude is 1: it reaches its last level at levels - 1, so that
// `levels` uses the whole range and clips nothing.
GridSearch::Window GridSearch::window() const {
  const size_t dim = magnitude_.size();
  if (dim <= kFewCoordinates || dim * (levels_ - 1) <= kFewEvents) {
    return {0.0f, std::numeric_limits<float>::infinity()};
  }
  double squares = 0;
  for (const float value : magnitude_) squares += static_cast<double>(value) * value;
  const double deviation = std::sqrt(squares / static_cast<double>(dim));
  const float gaussian = static_cast<float>(1.0 / (double{kGaussianStep[bits_]} * deviation));
  const float whole = static_cast<float>(levels_);
  const float centre = gaussian < kOutlier * whole ? std::max(gaussian, whole) : whole;
  return {kBelow * centre, kClipped * std::max(whole, kAbove * gaussian)};
}

void GridSearch::start(float least, std::span<uint8_t> levels) const {
  const float last = static_cast<float>(levels_ - 1);
  for (size_t i = 0; i < levels.size(); ++i) {
    levels[i] = static_cast<uint8_t>(std::min(least * magnitude_[i], last));
  }
}

void GridSearch::collect(const Window& window, std::span<const uint8_t> levels) {
  events_.clear();
  for (size_t i = 0; i < magnitude_.size(); ++i) {
    if (!(magnitude_[i] > 0)) continue;
    for (uint32_t level = levels[i] + 1u; level < levels_; ++level) {
      const float t = static_cast<float>(level) / magnitude_[i];
      if (t > window.most) break;
      events_.push_back(event_of(t, static_cast<uint32_t>(i)));
    }
  }
}

// As many buckets as events: linear for breakpoints that are spread about evenly.
void GridSearch::sort_by_buckets(const Window& window) {
  const size_t count = events_.size();
  const float per_time = static_cast<float>(count) / (window.most - window.least);
  const auto bucket_of = [&](uint64_t event) {
    const float place = (time_of(event) - window.least) * per_time;
    return std::min(static_cast<size_t>(std::max(place, 0.0f)), count - 1);
  };
  places_.assign(count + 1, 0);
  for (const uint64_t event : events_) ++places_[bucket_of(event) + 1];
  for (size_t i = 1; i < count; ++i) places_[i] += places_[i - 1];
  sorted_.resize(count);
  for (const uint64_t event : events_) sorted_[places_[bucket_of(event)]++] = event;
  for (size_t bucket = 0, begin = 0; bucket < count; begin = places_[bucket++]) {
    std::sort(sorted_.begin() + static_cast<ptrdiff_t>(begin),
              sorted_.begin() + static_cast<ptrdiff_t>(places_[bucket]));
  }
  events_.swap(sorted_);
}

// How many events lead to the largest cosine; the fewest where several do.
size_t GridSearch::best_prefix(std::span<const uint8_t> levels) {
  walked_.assign(levels.begin(), levels.end());
  double product = 0, square = 0;  // <g, |x|> and |g|^2 for g_i = level_i + 1/2
  for (size_t i = 0; i < walked_.size(); ++i) {
    const double g = walked_[i] + 0.5;
    product += g * magnitude_[i];
    square += g * g;
  }
  double best = product * product / square;
  size_t prefix = 0;
  for (size_t k = 0; k < events_.size(); ++k) {
    const uint32_t i = index_of(events_[k]);
    product += magnitude_[i];
    square += 2.0 * ++walked_[i];  // (m + 1/2)^2 - (m - 1/2)^2
    const double cosine = product * product / square;
    if (cosine > best) {
      best = cosine;
      prefix = k + 1;
    }
  }
  return prefix;
}

void GridSearch::nearest(std::span<const float> x, std::span<uint8_t> codes) {
  float largest = 0;
  for (const float value : x) largest = std::max(largest, std::fabs(value));
  std::fill(codes.begin(), codes.end(), uint8_t{0});
  if (levels_ > 1 && largest > 0) {
    magnitude_.resize(x.size());
    for (size_t i = 0; i < x.size(); ++i) magnitude_[i] = std::fabs(x[i]) / largest;
    const Window bounds = window();
    start(bounds.least, codes);
    collect(bounds, codes);
    if (std::isfinite(bounds.most) && !events_.empty()) {
      sort_by_buckets(bounds);
    } else {
      std::sort(events_.begin(), events_.end());
    }
    const size_t prefix = best_prefix(codes);
    for (size_t k = 0; k < prefix; ++k) ++codes[index_of(events_[k])];
  }
  for (size_t i = 0; i < x.size(); ++i) {
    const uint32_t level = codes[i];
    codes[i] = static_cast<uint8_t>(x[i] >= 0 ? levels_ + level : levels_ - 1 - level);
  }
}

}  // namespace bigrain::quant
