// SPDX-License-Identifier: Apache-2.0
// RaBitQ: the estimator is unbiased, its error is the stated one, bounds hold at their rate, and
// degenerate data is harmless.
#include "quant/rabitq.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "check.h"
#include "graph_fixture.h"
#include "quant_fixture.h"

namespace bigrain {
namespace {

using check::encode_all;
using check::exact_distance;
using check::gaussian_vectors;
using check::view_of;

quant::Rabitq fitted(const std::vector<float>& x, size_t dim, uint32_t bits, uint64_t seed) {
  Monitor monitor;
  return {bits, quant::Frame::fit(view_of(x, dim), seed, 1, monitor)};
}

struct Spread {
  double sum = 0, squares = 0;
  size_t count = 0, inside = 0;

  void add(double z, bool within) {
    sum += z;
    squares += z * z;
    ++count;
    inside += within ? 1 : 0;
  }
  double mean() const { return sum / static_cast<double>(count); }
  double variance() const { return squares / static_cast<double>(count); }
  double share() const { return static_cast<double>(inside) / static_cast<double>(count); }
};

// |s|^2 less its part along r, for s = q - c, r = x - c.
double squared_across(const float* x, const float* q, std::span<const float> centre) {
  double rr = 0, rs = 0, ss = 0;
  for (size_t j = 0; j < centre.size(); ++j) {
    const double r = double{x[j]} - centre[j], s = double{q[j]} - centre[j];
    rr += r * r;
    rs += r * s;
    ss += s * s;
  }
  return ss - rs * rs / rr;
}

// Errors of the squared distance in the record's own standard errors, over fresh rotations.
Spread spread_of(const std::vector<float>& x, const std::vector<float>& q, size_t dim,
                 uint32_t bits) {
  Spread spread;
  Monitor monitor;
  const size_t count = x.size() / dim, asked = q.size() / dim;
  std::vector<float> estimate(count * asked), lower(count * asked), upper(count * asked);
  for (uint64_t seed = 0; seed < 6; ++seed) {
    const quant::Rabitq rabitq = fitted(x, dim, bits, seed);
    const std::vector<std::byte> codes = encode_all(rabitq, x, dim);
    rabitq.distance_bounds(view_of(q, dim), {codes.data(), count}, Metric::l2,
                           quant::kDefaultEpsilon, 1, monitor,
                           {estimate.data(), lower.data(), upper.data()});
    const quant::RabitqLayout layout(static_cast<uint32_t>(dim), bits);
    for (size_t i = 0; i < asked; ++i) {
      for (size_t j = 0; j < count; ++j) {
        const size_t place = i * count + j;
        const float *a = &x[j * dim], *b = &q[i * dim];
        const double truth = exact_distance(a, b, dim, Metric::l2);
        const double across = squared_across(a, b, rabitq.frame().centre());
        const double error = layout.factors(codes.data() + j * rabitq.code_size()).error;
        spread.add((estimate[place] - truth) / (2 * error * std::sqrt(across)),
                   lower[place] <= truth && truth <= upper[place]);
        CHECK(lower[place] <= estimate[place] && estimate[place] <= upper[place]);
      }
    }
  }
  return spread;
}

// 6 x 200 x 5 pairs: dependent, so the limits are wider than those of 6,000 independent ones.
void check_spread(const char* data, const std::vector<float>& x, const std::vector<float>& q,
                  size_t dim) {
  for (const uint32_t bits : {1u, 2u, 3u, 4u, 6u, 8u}) {
    const Spread spread = spread_of(x, q, dim, bits);
    const bool fine = std::fabs(spread.mean()) < 0.1 && spread.variance() > 0.85 &&
                      spread.variance() < 1.15 && spread.share() > 0.93 && spread.share() < 0.965;
    if (!fine)
      check::fail(__FILE__, __LINE__,
                  std::string(data) + " d=" + std::to_string(dim) +
                      " bits=" + std::to_string(bits) + ": mean " + check::show(spread.mean()) +
                      ", variance " + check::show(spread.variance()) + ", inside " +
                      check::show(spread.share()));
  }
}

TEST(estimates_are_unbiased_and_bounds_hold_at_their_rate) {
  for (const size_t dim : {32, 100, 384, 1000}) {
    check_spread("gaussian", gaussian_vectors(200, dim, 1), gaussian_vectors(5, dim, 2), dim);
    check_spread("clustered", check::random_vectors(200, dim, 1), check::random_vectors(5, dim, 2),
                 dim);
    // One large coordinate each, so that the rotation has all to do.
    std::vector<float> x = gaussian_vectors(200, dim, 3), q = gaussian_vectors(5, dim, 4);
    for (size_t i = 0; i < 200; ++i) x[i * dim + i % dim] += 30;
    for (size_t i = 0; i < 5; ++i) q[i * dim + i % dim] += 30;
    check_spread("spiked", x, q, dim);
  }
}

TEST(more_bits_lose_less) {
  const size_t dim = 128;
  const std::vector<float> x = gaussian_vectors(100, dim, 5);
  double last = 1;
  for (uint32_t bits = 1; bits <= 8; ++bits) {
    const quant::Rabitq rabitq = fitted(x, dim, bits, 1);
    const std::vector<float> back = check::decode_all(rabitq, encode_all(rabitq, x, dim), dim);
    double error = 0, total = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      error += (double{x[i]} - back[i]) * (double{x[i]} - back[i]);
      total += double{x[i]} * x[i];
    }
    // 0.36 for signs (1 - 2 / pi), and a quarter to a third for each further bit.
    CHECK(error / total < last * (bits == 1 ? 0.38 : 0.36));
    last = error / total;
  }
}

TEST(the_first_bytes_are_the_one_bit_record) {
  for (const size_t dim : {1, 7, 8, 9, 100}) {
    const std::vector<float> x = gaussian_vectors(20, dim, 6);
    const quant::Rabitq one = fitted(x, dim, 1, 3), five = fitted(x, dim, 5, 3);
    const std::vector<std::byte> first = encode_all(one, x, dim), all = encode_all(five, x, dim);
    CHECK_EQ(one.code_size(), (dim + 7) / 8 + 12);
    CHECK_EQ(five.code_size(), (dim + 7) / 8 * 5 + 20);
    for (size_t i = 0; i < 20; ++i) {
      CHECK(std::memcmp(&first[i * one.code_size()], &all[i * five.code_size()], one.code_size()) ==
            0);
    }
  }
}

TEST(a_vector_is_at_distance_zero_of_its_own_code) {
  for (const size_t dim : {1, 2, 3, 17, 100, 784, 4096}) {
    for (const uint32_t bits : {1u, 4u, 8u}) {
      std::vector<float> x = gaussian_vectors(8, dim, 7);
      std::copy_n(x.begin(), dim, x.begin() + static_cast<ptrdiff_t>(dim));  // rows 0 and 1 alike
      const quant::Rabitq rabitq = fitted(x, dim, bits, 1);
      const std::vector<float> own = check::distances_of(rabitq, x, x, dim, Metric::l2);
      double norm = 0;
      for (const float value : x) norm += double{value} * value / 8;
      for (size_t i = 0; i < 8; ++i) CHECK(own[i * 8 + i] >= 0 && own[i * 8 + i] < 2e-6 * norm);
      CHECK_EQ(own[0], own[1]);
      for (const float value : own) CHECK(std::isfinite(value));
    }
  }
}

TEST(zero_residuals_and_scales_from_1e_15_to_1e15) {
  for (const float scale : {1e-15f, 1.0f, 1e15f}) {
    for (const uint32_t bits : {1u, 4u, 8u}) {
      const size_t dim = 50;
      std::vector<float> x = gaussian_vectors(40, dim, 8);
      for (float& value : x) value *= scale;
      const quant::Rabitq rabitq = fitted(x, dim, bits, 1);
      const std::vector<float> q(x.begin(), x.begin() + static_cast<ptrdiff_t>(dim));
      for (const Metric metric : {Metric::l2, Metric::ip, Metric::cosine}) {
        const std::vector<float> got = check::distances_of(rabitq, x, q, dim, metric);
        const double unit = metric == Metric::cosine ? 1 : 50 * double{scale} * scale;
        for (size_t j = 0; j < 40; ++j) {
          const double truth = exact_distance(&x[j * dim], q.data(), dim, metric);
          CHECK_NEAR(got[j], truth, unit * 3 / (1u << bits));
        }
      }
    }
  }
  const std::vector<float> same(64 * 3, 2.5f);  // every residual is zero
  const quant::Rabitq rabitq = fitted(same, 64, 4, 1);
  const std::vector<float> back = check::decode_all(rabitq, encode_all(rabitq, same, 64), 64);
  for (const float value : back) CHECK_EQ(value, 2.5f);
  const std::vector<float> far(64, 3.5f);
  for (const float value : check::distances_of(rabitq, same, far, 64, Metric::l2)) {
    CHECK_NEAR(value, 64, 1e-4);
  }
}

TEST(threads_do_not_change_a_byte) {
  const size_t dim = 33;
  const std::vector<float> x = gaussian_vectors(3000, dim, 9), q = gaussian_vectors(300, dim, 10);
  Monitor monitor;
  const quant::Rabitq a{3, quant::Frame::fit(view_of(x, dim), 5, 1, monitor)};
  const quant::Rabitq b{3, quant::Frame::fit(view_of(x, dim), 5, 7, monitor)};
  CHECK(std::ranges::equal(a.frame().centre(), b.frame().centre()));
  const std::vector<std::byte> codes = encode_all(a, x, dim, 1);
  CHECK(codes == encode_all(b, x, dim, 7));
  CHECK(check::distances_of(a, x, q, dim, Metric::l2, 1) ==
        check::distances_of(b, x, q, dim, Metric::l2, 7));
}

TEST(wrong_arguments_are_refused) {
  const std::vector<float> x = gaussian_vectors(4, 6, 11);
  const quant::Rabitq rabitq = fitted(x, 6, 2, 1);
  std::vector<std::byte> codes(4 * rabitq.code_size());
  std::vector<float> out(3 * 4 * 4);
  Monitor monitor;
  for (const uint32_t bits : {0u, 9u})
    CHECK_THROWS(fitted(x, 6, bits, 1), ErrorKind::invalid_argument);
  CHECK_THROWS(rabitq.encode(view_of(x, 3), 1, monitor, codes.data()), ErrorKind::invalid_argument);
  CHECK_THROWS(quant::Frame(std::vector<float>(6), std::vector<uint8_t>(3)),
               ErrorKind::invalid_argument);
  CHECK_THROWS(rabitq.distance_bounds(view_of(x, 6), {codes.data(), 4}, Metric::cosine, 1.9f, 1,
                                      monitor, {out.data(), out.data() + 16, out.data() + 32}),
               ErrorKind::invalid_argument);
  CHECK_THROWS(encode_all(rabitq, std::vector<float>(6, 1e20f), 6), ErrorKind::invalid_argument);
}

}  // namespace
}  // namespace bigrain
