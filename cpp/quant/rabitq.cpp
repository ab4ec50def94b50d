// SPDX-License-Identifier: Apache-2.0
#include "quant/rabitq.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <string>
#include <vector>

#include "bigrain/error.h"
#include "simd/kernels.h"
#include "util/thread_pool.h"

namespace bigrain::quant {

namespace {

// Opened records of a task: 16 of d=784 fill a first-level cache of 48 KiB, and opening them costs
// little beside the distances to a few dozen queries.
constexpr size_t kRecordsAtOnce = 16;
// Queries of a task: bounds the time between two polls.
constexpr size_t kQueriesAtOnce = 256;

// Scale and error of the grid point g with <g, r> = product and |g|^2 = square.
RabitqFactors factors_of(double squared_norm, double product, double square, size_t dim) {
  const double miss = std::max(0.0, square * squared_norm / (product * product) - 1);
  const double across = dim > 1 ? miss / static_cast<double>(dim - 1) : 0.0;
  return {static_cast<float>(squared_norm), static_cast<float>(squared_norm / product),
          static_cast<float>(std::sqrt(squared_norm * across))};
}

// The ends of <r, s> where its estimate is `estimate`; `length` is |s|. See rabitq.h.
struct Interval {
  double least, most;
};
Interval interval_of(double estimate, double length, const RabitqFactors& factors, double epsilon) {
  const double norm = std::sqrt(static_cast<double>(factors.squared_norm));
  if (!(norm > 0)) return {0, 0};
  const double k = epsilon * factors.error / norm;
  const double e = estimate / norm, divisor = 1 + k * k;
  const double root = std::sqrt(std::max(0.0, divisor * length * length - e * e));
  const auto end = [&](double t) { return norm * std::clamp(t / divisor, -length, length); };
  return {end(e - k * root), end(e + k * root)};
}

}  // namespace

// A record on its way into distances.
struct Rabitq::Opened {
  RabitqFactors factors;
  std::span<const float> grid;
  double length;  // |x| by its code; under cosine only
};

Rabitq::Rabitq(uint32_t bits, Frame frame) : frame_(std::move(frame)), layout_(frame_.dim(), bits) {
  if (bits < kMinRabitqBits || bits > kMaxRabitqBits) {
    throw Error::invalid("bits: expected 1 to 8, found " + std::to_string(bits));
  }
}

void Rabitq::encode_row(std::span<const float> r, GridSearch& search, std::span<uint8_t> levels,
                        std::byte* record) const {
  search.nearest(r, levels);
  const double squared_norm = dot_of(r, r);
  // Below float32's least normal number a residual is as good as zero.
  if (squared_norm < FLT_MIN) {
    std::fill(levels.begin(), levels.end(), static_cast<uint8_t>(1u << (bits() - 1)));
    return layout_.pack(levels, {0, 0, 0}, {0, 0, 0}, record);
  }
  const double middle = ((1u << bits()) - 1) / 2.0;
  double product = 0, square = 0, magnitudes = 0;
  for (size_t i = 0; i < r.size(); ++i) {
    const double g = levels[i] - middle;
    product += g * r[i];
    square += g * g;
    magnitudes += std::fabs(r[i]);
  }
  const double quarter = static_cast<double>(r.size()) / 4;  // |g|^2 where all are +-1/2
  layout_.pack(levels, factors_of(squared_norm, magnitudes / 2, quarter, r.size()),
               factors_of(squared_norm, product, square, r.size()), record);
}

void Rabitq::encode(const MatrixView& x, uint32_t threads, Monitor& monitor,
                    std::byte* codes) const {
  struct Scratch {
    GridSearch search;
    std::vector<uint8_t> levels;
  };
  std::vector<Scratch> scratch(resolve_threads(threads),
                               {GridSearch(bits()), std::vector<uint8_t>(dim())});
  for_each_mapped(frame_, x, threads, monitor, [&](size_t i, std::span<float> r, uint32_t worker) {
    encode_row(r, scratch[worker].search, scratch[worker].levels, codes + i * code_size());
  });
}

void Rabitq::decode(const Records& codes, uint32_t threads, Monitor& monitor, float* out) const {
  monitor.start(codes.count);
  parallel_for(codes.count, kRecordsAtOnce, threads, monitor,
               [&](size_t begin, size_t end, uint32_t) {
                 std::vector<uint8_t> levels((dim() + 7) / 8 * 8);
                 for (size_t i = begin; i < end; ++i) {
                   const std::byte* const record = codes.data + i * code_size();
                   const std::span<float> row(out + i * dim(), dim());
                   const RabitqFactors factors = layout_.factors(record);
                   layout_.unpack(record, levels, row);
                   // <g, r> / |g|^2, and <g, r> is |r|^2 / scale.
                   const double product =
                       factors.scale > 0 ? factors.squared_norm / double{factors.scale} : 0.0;
                   const double least_squares = product / dot_of(row, row);
                   for (float& value : row) value = static_cast<float>(value * least_squares);
                   frame_.unmap(row);
                 }
                 monitor.advance(end - begin);
               });
}

// |c + P^-1 r|, with the estimate of <c, r>.
double Rabitq::length_of(const Opened& record) const {
  const double along = dot_of(record.grid, frame_.rotated_centre()) * record.factors.scale;
  const double square =
      dot_of(frame_.centre(), frame_.centre()) + 2 * along + record.factors.squared_norm;
  return std::sqrt(std::max(0.0, square));
}

// Calls body(query, record, opened record, <g, s>) for every pair.
template <class Body>
void Rabitq::for_each_pair(const MappedQueries& queries, const Records& codes, Metric metric,
                           uint32_t threads, Monitor& monitor, const Body& body) const {
  const simd::DistanceFn negated_dot = simd::active_kernels().distance_of(Metric::ip, Dtype::f32);
  const size_t asked = queries.constants.size();
  const size_t blocks = (codes.count + kRecordsAtOnce - 1) / kRecordsAtOnce;
  const size_t rounds = (asked + kQueriesAtOnce - 1) / kQueriesAtOnce;
  monitor.start(asked * codes.count);
  parallel_for(blocks * rounds, 1, threads, monitor, [&](size_t begin, size_t end, uint32_t) {
    std::vector<uint8_t> levels((dim() + 7) / 8 * 8);
    std::vector<float> grids(kRecordsAtOnce * dim());
    for (size_t task = begin; task < end; ++task) {
      const size_t first = task % blocks * kRecordsAtOnce;
      const size_t count = std::min(kRecordsAtOnce, codes.count - first);
      Opened opened[kRecordsAtOnce];
      for (size_t j = 0; j < count; ++j) {
        const std::byte* const record = codes.data + (first + j) * code_size();
        const std::span<float> grid(grids.data() + j * dim(), dim());
        layout_.unpack(record, levels, grid);
        opened[j] = {layout_.factors(record), grid, 0};
        if (metric == Metric::cosine) opened[j].length = length_of(opened[j]);
      }
      const size_t from = task / blocks * kQueriesAtOnce,
                   to = std::min(asked, from + kQueriesAtOnce);
      for (size_t i = from; i < to; ++i) {
        const float* const row = queries.row(i).data();
        for (size_t j = 0; j < count; ++j) {
          body(i, first + j, opened[j], -negated_dot(row, opened[j].grid.data(), dim()));
        }
      }
      monitor.advance((to - from) * count);
    }
  });
}

void Rabitq::distance(const MatrixView& queries, const Records& codes, Metric metric,
                      uint32_t threads, Monitor& monitor, float* out) const {
  const MappedQueries mapped = map_queries(frame_, queries, metric, threads, monitor);
  for_each_pair(
      mapped, codes, metric, threads, monitor,
      [&](size_t query, size_t id, const Opened& record, float dot) {
        const RabitqFactors& factors = record.factors;
        const double inner = double{factors.scale} * dot;
        double result = 0;
        if (metric == Metric::l2) {
          result = std::max(0.0, factors.squared_norm + mapped.constants[query] - 2 * inner);
        } else if (metric == Metric::ip) {
          result = -(mapped.constants[query] + inner);
        } else {
          result = record.length > 0 ? 1 - (mapped.constants[query] + inner) / record.length : 1;
        }
        out[query * codes.count + id] = static_cast<float>(result);
      });
}

void Rabitq::distance_bounds(const MatrixView& queries, const Records& codes, Metric metric,
                             float epsilon, uint32_t threads, Monitor& monitor,
                             const Bounds& out) const {
  if (metric == Metric::cosine) {
    throw Error::invalid(
        "metric: expected 'l2' or 'ip', found 'cosine'; normalise vectors and queries, encode and "
        "ask under 'ip'");
  }
  const MappedQueries mapped = map_queries(frame_, queries, metric, threads, monitor);
  std::vector<double> lengths(queries.rows);
  for (size_t i = 0; i < lengths.size(); ++i) {
    lengths[i] = std::sqrt(dot_of(mapped.row(i), mapped.row(i)));
  }
  for_each_pair(mapped, codes, metric, threads, monitor,
                [&](size_t query, size_t id, const Opened& record, float dot) {
                  const double inner = double{record.factors.scale} * dot;
                  const Interval ends = interval_of(inner, lengths[query], record.factors, epsilon);
                  const auto distance_at = [&](double value) {
                    const double constant = mapped.constants[query];
                    if (metric == Metric::ip) return static_cast<float>(-(constant + value));
                    return static_cast<float>(
                        std::max(0.0, record.factors.squared_norm + constant - 2 * value));
                  };
                  const size_t place = query * codes.count + id;
                  out.estimate[place] = distance_at(inner);
                  out.lower[place] = distance_at(std::max(ends.most, inner));
                  out.upper[place] = distance_at(std::min(ends.least, inner));
                });
}

}  // namespace bigrain::quant
