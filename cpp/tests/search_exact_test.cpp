// SPDX-License-Identifier: Apache-2.0
#include "bigrain/exact.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "bigrain/error.h"
#include "check.h"
#include "search/exact_candidates.h"
#include "simd/kernels.h"
#include "util/half.h"
#include "util/monitor.h"
#include "util/rng.h"

using namespace bigrain;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr Metric kMetrics[] = {Metric::l2, Metric::ip, Metric::cosine};
constexpr Dtype kDtypes[] = {Dtype::f32, Dtype::f16, Dtype::i8, Dtype::u8};

// A matrix that owns its elements, made of float values that its type holds exactly.
struct Matrix {
  Matrix(size_t rows_, size_t dim_, Dtype dtype_)
      : rows(rows_), dim(dim_), dtype(dtype_), bytes(rows_ * dim_ * item_size(dtype_)) {}

  MatrixView view() const { return {bytes.data(), rows, dim, dtype}; }

  double at(size_t row, size_t k) const {
    const std::byte* p = bytes.data() + (row * dim + k) * item_size(dtype);
    if (dtype == Dtype::f32) return static_cast<double>(load<float>(p));
    if (dtype == Dtype::f16) return static_cast<double>(half_to_float(load<uint16_t>(p)));
    return dtype == Dtype::i8 ? static_cast<double>(load<int8_t>(p))
                              : static_cast<double>(load<uint8_t>(p));
  }
  template <class T>
  void set(size_t row, size_t k, T value) {
    std::memcpy(bytes.data() + (row * dim + k) * sizeof(T), &value, sizeof(T));
  }
  template <class T>
  static T load(const std::byte* p) {
    T value;
    std::memcpy(&value, p, sizeof(T));
    return value;
  }

  size_t rows, dim;
  Dtype dtype;
  std::vector<std::byte> bytes;
};

// Values of few digits make ties likely. Halves between 1 and 2 in either sign.
Matrix random_matrix(size_t rows, size_t dim, Dtype dtype, uint64_t seed, uint64_t levels = 1000) {
  Matrix m(rows, dim, dtype);
  Rng rng(seed);
  for (size_t i = 0; i < rows; ++i) {
    for (size_t k = 0; k < dim; ++k) {
      const uint64_t level = rng.bounded(levels);
      if (dtype == Dtype::f32) {
        m.set(i, k, static_cast<float>(level) / static_cast<float>(levels) - 0.4503f);
      } else if (dtype == Dtype::f16) {
        m.set(i, k, static_cast<uint16_t>(0x3c00 | (level & 0x3ff) | (rng.next() & 0x8000)));
      } else if (dtype == Dtype::i8) {
        m.set(i, k, static_cast<int8_t>(static_cast<int>(level % 256) - 128));
      } else {
        m.set(i, k, static_cast<uint8_t>(level));
      }
    }
    if (dtype == Dtype::i8) m.set(i, 0, int8_t{1});  // no row of zeros
    if (dtype == Dtype::u8) m.set(i, 0, uint8_t{1});
  }
  return m;
}

Dtype query_dtype(Dtype base) { return base == Dtype::f16 ? Dtype::f32 : base; }

struct Answer {
  std::vector<int64_t> ids;
  std::vector<float> distances;
  bool operator==(const Answer&) const = default;
};

Answer search(const Matrix& base, const Matrix& queries, Metric metric, uint32_t k,
              uint32_t threads) {
  Answer answer{std::vector<int64_t>(queries.rows * k, -7),
                std::vector<float>(queries.rows * k, -7)};
  Monitor monitor;
  exact_search(base.view(), queries.view(), metric, k, threads, answer.ids.data(),
               answer.distances.data(), monitor);
  return answer;
}

// What the contract says: sort all rows by (kernel distance, row).
Answer sorted_by_kernel(const Matrix& base, const Matrix& queries, Metric metric, uint32_t k) {
  const simd::DistanceFn distance = simd::active_kernels().distance_of(metric, base.dtype);
  Answer answer{std::vector<int64_t>(queries.rows * k, -1),
                std::vector<float>(queries.rows * k, kInfinity)};
  std::vector<float> distances(base.rows);
  std::vector<size_t> order(base.rows);
  for (size_t q = 0; q < queries.rows; ++q) {
    for (size_t i = 0; i < base.rows; ++i) {
      const float d = distance(queries.view().row(q), base.view().row(i), base.dim);
      distances[i] = std::isnan(d) ? kInfinity : d;
    }
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return distances[a] < distances[b]; });
    for (size_t i = 0; i < std::min<size_t>(k, base.rows); ++i) {
      answer.ids[q * k + i] = static_cast<int64_t>(order[i]);
      answer.distances[q * k + i] = distances[order[i]];
    }
  }
  return answer;
}

double true_distance(const Matrix& queries, size_t q, const Matrix& base, size_t row,
                     Metric metric) {
  double l2 = 0, ip = 0, xx = 0, qq = 0;
  for (size_t k = 0; k < base.dim; ++k) {
    const double a = queries.at(q, k), b = base.at(row, k);
    l2 += (a - b) * (a - b);
    ip += a * b;
    xx += b * b;
    qq += a * a;
  }
  return metric == Metric::l2 ? l2 : metric == Metric::ip ? -ip : 1 - ip / std::sqrt(xx * qq);
}

// The true distances in ascending order, each within `relative` of what was answered.
void check_against_double(const Matrix& base, const Matrix& queries, Metric metric, uint32_t k,
                          const Answer& answer) {
  std::vector<double> truth(base.rows);
  for (size_t q = 0; q < queries.rows; ++q) {
    double scale = metric == Metric::cosine ? 1 : 0;
    for (size_t i = 0; i < base.rows; ++i) {
      truth[i] = true_distance(queries, q, base, i, metric);
      scale = std::max(scale, std::abs(truth[i]));
    }
    const double tolerance = 1e-5 * scale;
    for (size_t i = 0; i < std::min<size_t>(k, base.rows); ++i) {
      const auto id = static_cast<size_t>(answer.ids[q * k + i]);
      CHECK_NEAR(answer.distances[q * k + i], truth[id], tolerance);
    }
    std::sort(truth.begin(), truth.end());
    for (size_t i = 0; i < std::min<size_t>(k, base.rows); ++i)
      CHECK_NEAR(answer.distances[q * k + i], truth[i], tolerance);
  }
}

void check_all_threads(const Matrix& base, const Matrix& queries, Metric metric, uint32_t k) {
  const Answer expected = sorted_by_kernel(base, queries, metric, k);
  for (const uint32_t threads : {1u, 2u, 7u})
    CHECK(search(base, queries, metric, k, threads) == expected);
}

}  // namespace

TEST(all_metrics_and_types_agree_with_a_double_oracle) {
  for (const Dtype dtype : kDtypes) {
    for (const size_t dim : {1, 2, 17, 100, 300}) {
      // A single positive component has cosine 1 with every other: fewer rows of interest.
      const Matrix base = random_matrix(700, dim, dtype, dim);
      const Matrix queries = random_matrix(29, dim, query_dtype(dtype), dim + 1);
      for (const Metric metric : kMetrics) {
        const Answer answer = search(base, queries, metric, 10, 2);
        check_against_double(base, queries, metric, 10, answer);
        CHECK(answer == sorted_by_kernel(base, queries, metric, 10));
      }
    }
  }
}

TEST(answer_does_not_depend_on_threads_or_on_the_way) {
  for (const Dtype dtype : kDtypes) {
    const Matrix base = random_matrix(3001, 65, dtype, 5);
    for (const size_t rows : {1, 3, 11, 12, 40}) {
      const Matrix queries = random_matrix(rows, 65, query_dtype(dtype), 6);
      for (const Metric metric : kMetrics) {
        for (const uint32_t k : {1u, 10u, 500u}) check_all_threads(base, queries, metric, k);
      }
    }
  }
}

TEST(ties_go_to_the_smaller_row) {
  // Two levels in three dimensions: at most eight different rows, thousands of duplicates; the sets
  // of candidates overflow and the direct scan answers.
  for (const Dtype dtype : kDtypes) {
    const Matrix base = random_matrix(6000, 3, dtype, 1, 2);
    const Matrix queries = random_matrix(20, 3, query_dtype(dtype), 2, 2);
    for (const Metric metric : {Metric::l2, Metric::ip})
      check_all_threads(base, queries, metric, 7);
  }
  Matrix same(5000, 8, Dtype::f32);
  for (size_t i = 0; i < same.rows; ++i) {
    for (size_t k = 0; k < 8; ++k) same.set(i, k, static_cast<float>(k) + 0.1f);
  }
  const Matrix queries = random_matrix(15, 8, Dtype::f32, 3);
  for (const Metric metric : kMetrics) check_all_threads(same, queries, metric, 10);
}

TEST(large_offsets_and_tiny_differences) {
  // |x|^2 is 1e9 and the distances about 1e-3: without the centre no digit of the Gram form would
  // be right; with ip and cosine the bound sends every query to the direct scan.
  Matrix base = random_matrix(4000, 50, Dtype::f32, 8);
  Matrix queries = random_matrix(30, 50, Dtype::f32, 9);
  for (Matrix* m : {&base, &queries}) {
    for (size_t i = 0; i < m->rows; ++i) {
      for (size_t k = 0; k < m->dim; ++k)
        m->set(i, k, 4000.0f + 0.01f * static_cast<float>(m->at(i, k)));
    }
  }
  for (const Metric metric : kMetrics) check_all_threads(base, queries, metric, 10);
}

TEST(clusters_far_apart_with_outliers) {
  Matrix base = random_matrix(4000, 20, Dtype::f32, 18);
  Matrix queries = random_matrix(30, 20, Dtype::f32, 19);
  for (Matrix* m : {&base, &queries}) {
    for (size_t i = 0; i < m->rows; ++i) {
      const float offset = static_cast<float>(i % 5) * 1e4f;
      for (size_t k = 0; k < m->dim; ++k) m->set(i, k, static_cast<float>(m->at(i, k)) + offset);
    }
  }
  base.set(77, 3, 1e15f);
  base.set(78, 3, -1e15f);
  for (const Metric metric : kMetrics) check_all_threads(base, queries, metric, 10);
}

TEST(magnitudes_at_the_ends_of_float) {
  for (const float scale : {1e-42f, 1e-30f, 1e-20f, 1e18f, 1e30f, 3e38f}) {
    Matrix base = random_matrix(2000, 12, Dtype::f32, 4);
    Matrix queries = random_matrix(16, 12, Dtype::f32, 5);
    for (Matrix* m : {&base, &queries}) {
      for (size_t i = 0; i < m->rows; ++i) {
        for (size_t k = 0; k < m->dim; ++k) m->set(i, k, static_cast<float>(m->at(i, k)) * scale);
      }
    }
    for (const Metric metric : kMetrics) check_all_threads(base, queries, metric, 5);
  }
}

TEST(missing_rows_are_padded) {
  const Matrix queries = random_matrix(13, 4, Dtype::f32, 2);
  for (const size_t rows : {0, 1, 5}) {
    const Matrix base = random_matrix(rows, 4, Dtype::f32, 1);
    for (const Metric metric : kMetrics) check_all_threads(base, queries, metric, 8);
  }
  const Matrix base = random_matrix(5, 4, Dtype::f32, 1);
  CHECK(search(base, Matrix(0, 4, Dtype::f32), Metric::l2, 3, 1).ids.empty());
}

TEST(high_dimension_crosses_runs_and_tails) {
  for (const size_t dim : {255, 256, 257, 1023, 1100}) {
    const Matrix base = random_matrix(600, dim, Dtype::f32, dim);
    const Matrix queries = random_matrix(17, dim, Dtype::f32, dim + 1);
    for (const Metric metric : kMetrics) check_all_threads(base, queries, metric, 10);
  }
}

TEST(many_queries_make_several_batches) {
  const Matrix base = random_matrix(1500, 3, Dtype::f32, 1);
  const Matrix queries = random_matrix(4500, 3, Dtype::f32, 2);
  const Answer expected = sorted_by_kernel(base, queries, Metric::l2, 2);
  CHECK(search(base, queries, Metric::l2, 2, 2) == expected);
}

TEST(arguments_are_checked) {
  const Matrix base = random_matrix(50, 4, Dtype::f32, 1);
  const auto refused = ErrorKind::invalid_argument;
  CHECK_THROWS(search(base, Matrix(1, 5, Dtype::f32), Metric::l2, 1, 1), refused);
  CHECK_THROWS(search(base, Matrix(1, 4, Dtype::u8), Metric::l2, 1, 1), refused);
  CHECK_THROWS(
      search(random_matrix(9, 4, Dtype::f16, 1), Matrix(1, 4, Dtype::f16), Metric::l2, 1, 1),
      refused);
  CHECK_THROWS(search(base, Matrix(1, 4, Dtype::f32), Metric::l2, 0, 1), refused);
}

TEST(zero_rows_have_no_cosine) {
  for (const Dtype dtype : kDtypes) {
    Matrix base = random_matrix(90, 4, dtype, 1);
    const Matrix queries = random_matrix(20, 4, query_dtype(dtype), 2);
    std::memset(base.bytes.data() + 41 * 4 * item_size(dtype), 0, 4 * item_size(dtype));
    std::memset(base.bytes.data() + 77 * 4 * item_size(dtype), 0, 4 * item_size(dtype));
    std::string message;
    try {
      search(base, queries, Metric::cosine, 3, 2);
    } catch (const Error& error) {
      message = error.what();
    }
    CHECK(message.find("base row 41 ") != std::string::npos);
    check_all_threads(base, queries, Metric::l2, 3);
  }
  const Matrix base = random_matrix(90, 4, Dtype::f32, 1);
  CHECK_THROWS(search(base, Matrix(1, 4, Dtype::f32), Metric::cosine, 1, 1),
               ErrorKind::invalid_argument);
}

TEST(progress_is_counted_and_a_refusal_cancels) {
  const Matrix base = random_matrix(20'000, 64, Dtype::f32, 1);
  for (const size_t rows : {3, 100}) {
    const Matrix queries = random_matrix(rows, 64, Dtype::f32, 2);
    std::vector<int64_t> ids(rows);
    std::vector<float> distances(rows);
    uint64_t done = 0, total = 0;
    Monitor monitor([&](uint64_t d, uint64_t t) {
      done = d;
      total = t;
      return true;
    });
    exact_search(base.view(), queries.view(), Metric::l2, 1, 2, ids.data(), distances.data(),
                 monitor);
    monitor.check_now();
    CHECK_EQ(total, rows * base.rows);
    CHECK_EQ(done, total);
    Monitor refusing([](uint64_t, uint64_t) { return false; });
    CHECK_THROWS(exact_search(base.view(), queries.view(), Metric::l2, 1, 2, ids.data(),
                              distances.data(), refusing),
                 ErrorKind::cancelled);
  }
}

TEST(candidate_sets_never_lose_a_possible_row) {
  // Scores off by up to their bound; every row that is truly among the k nearest must stay.
  Rng rng(3);
  for (const size_t k : {1, 5, 60}) {
    for (int round = 0; round < 20; ++round) {
      exact::CandidateSet set(k);
      std::vector<std::pair<float, uint32_t>> truth;
      const float bound = round % 2 == 0 ? 0.0f : 0x1p-10f * static_cast<float>(round);
      for (uint32_t row = 0; row < 5000; ++row) {
        const float distance = static_cast<float>(rng.bounded(1 << 12)) * 0x1p-10f;
        const float off = static_cast<float>(rng.bounded(3)) - 1;
        truth.emplace_back(distance, row);
        const float score = distance + off * bound;
        if (score - bound <= set.limit()) set.add(score, bound, row);
      }
      CHECK(!set.overflowed());
      std::vector<exact::Candidate> kept = set.candidates();
      exact::keep_possible(kept, k);
      if (round == 0) CHECK_EQ(kept.size(), k);
      std::sort(truth.begin(), truth.end());
      for (size_t i = 0; i < k; ++i) {
        CHECK(std::any_of(kept.begin(), kept.end(),
                          [&](const exact::Candidate& c) { return c.row == truth[i].second; }));
      }
    }
  }
}
