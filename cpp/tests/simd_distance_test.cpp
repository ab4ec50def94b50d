// SPDX-License-Identifier: Apache-2.0
// Every distance kernel of every table against sums in double or int64.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <type_traits>
#include <vector>

#include "bigrain/params.h"
#include "check.h"
#include "simd_common.h"

namespace bigrain::simd {
namespace {

constexpr size_t kMaxTestDim = 1100;
constexpr double kTolerance = 4e-6;  // of the sum of the absolute terms
constexpr Metric kMetrics[] = {Metric::l2, Metric::ip, Metric::cosine};
constexpr Dtype kDtypes[] = {Dtype::f32, Dtype::f16, Dtype::i8, Dtype::u8};

double value_of_half(uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double sign = bits >> 15 ? -1.0 : 1.0;
  if (exponent == 31) return mantissa ? std::nan("") : sign * HUGE_VAL;
  return sign *
         (exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25));
}

double value_at(const std::byte* data, Dtype dtype, size_t i) {
  float f;
  uint16_t h;
  switch (dtype) {
    case Dtype::f32:
      std::memcpy(&f, data + 4 * i, 4);
      return f;
    case Dtype::f16:
      std::memcpy(&h, data + 2 * i, 2);
      return value_of_half(h);
    case Dtype::i8:
      return static_cast<int8_t>(data[i]);
    case Dtype::u8:
      return static_cast<uint8_t>(data[i]);
  }
  return 0;
}

Dtype query_dtype(Dtype dtype) { return dtype == Dtype::f16 ? Dtype::f32 : dtype; }
bool is_integer(Dtype dtype) { return dtype == Dtype::i8 || dtype == Dtype::u8; }

struct Expected {
  double distance;
  double slack;  // how far a float kernel may be off; 0 where it must be exact
};

// Integer sums stay below 2^53, so double is exact for them.
Expected oracle(Metric metric, Dtype dtype, const std::byte* query, const std::byte* x,
                size_t dim) {
  double l2 = 0, ip = 0, ip_magnitude = 0, xx = 0, qq = 0;
  for (size_t i = 0; i < dim; ++i) {
    const double a = value_at(query, query_dtype(dtype), i), b = value_at(x, dtype, i);
    l2 += (a - b) * (a - b);
    ip += a * b;
    ip_magnitude += std::abs(a * b);
    xx += b * b;
    qq += a * a;
  }
  const double tolerance = is_integer(dtype) ? 0 : kTolerance;
  if (metric == Metric::l2) return {l2, tolerance * l2};
  if (metric == Metric::ip) return {-ip, tolerance * ip_magnitude};
  if (xx == 0 || qq == 0) return {1, 0};
  const double norms = std::sqrt(xx * qq);
  return {std::clamp(1 - ip / norms, 0.0, 2.0), kTolerance * (1 + ip_magnitude / norms)};
}

void fill(std::byte* data, Dtype dtype, size_t dim, std::mt19937& random) {
  std::normal_distribution<float> normal;
  for (size_t i = 0; i < dim; ++i) {
    if (dtype == Dtype::f32) {
      const float value = normal(random);
      std::memcpy(data + 4 * i, &value, 4);
    } else if (dtype == Dtype::f16) {  // any finite half below 2, subnormals among them
      const uint16_t bits = static_cast<uint16_t>((random() % 0x4000) | (random() & 0x8000));
      std::memcpy(data + 2 * i, &bits, 2);
    } else {
      data[i] = static_cast<std::byte>(random());
    }
  }
}

// Checks all tables on one pair of vectors, and that they agree to the bit.
void check_pair(const std::vector<NamedTable>& tables, Metric metric, Dtype dtype,
                const std::byte* query, const std::byte* x, size_t dim) {
  const Expected expected = oracle(metric, dtype, query, x, dim);
  const bool exact = is_integer(dtype) && metric != Metric::cosine;
  uint32_t first_bits = 0;
  for (const NamedTable& table : tables) {
    const float got = table.kernels->distance_of(metric, dtype)(query, x, dim);
    if (&table == tables.data()) first_bits = bits_of(got);
    const bool right = exact ? got == static_cast<float>(expected.distance)
                             : std::abs(got - expected.distance) <= expected.slack;
    if (right && bits_of(got) == first_bits) continue;
    check::fail(__FILE__, __LINE__,
                table.name + " " + name_of(metric) + " " + name_of(dtype) +
                    " d=" + std::to_string(dim) + ": got " + check::show(got) + ", expected " +
                    check::show(expected.distance));
  }
}

TEST(every_dimension_in_guarded_memory) {
  const std::vector<NamedTable> tables = tables_here();
  GuardedBuffer query_memory(kMaxTestDim * 4), x_memory(kMaxTestDim * 4);
  std::mt19937 random(1);
  for (size_t dim = 1; dim <= kMaxTestDim; ++dim) {
    for (const Dtype dtype : kDtypes) {
      const size_t query_bytes = dim * item_size(query_dtype(dtype));
      const size_t x_bytes = dim * item_size(dtype);
      // Against the page above, then against the page below.
      for (const bool above : {true, false}) {
        std::byte* query = above ? query_memory.last(query_bytes) : query_memory.first();
        std::byte* x = above ? x_memory.last(x_bytes) : x_memory.first();
        fill(query, query_dtype(dtype), dim, random);
        fill(x, dtype, dim, random);
        for (const Metric metric : kMetrics) check_pair(tables, metric, dtype, query, x, dim);
      }
    }
  }
}

TEST(every_alignment) {
  const std::vector<NamedTable> tables = tables_here();
  alignas(64) std::byte query[64 + 200 * 4], x[64 + 200 * 4];
  std::mt19937 random(2);
  for (size_t offset = 0; offset < 64; ++offset) {
    for (const Dtype dtype : kDtypes) {
      const size_t q_step = item_size(query_dtype(dtype)), x_step = item_size(dtype);
      std::byte* q_at = query + offset / q_step * q_step;
      std::byte* x_at = x + (63 - offset) / x_step * x_step;
      for (const size_t dim : {size_t{1}, size_t{31}, size_t{100}, size_t{128}, size_t{200}}) {
        fill(q_at, query_dtype(dtype), dim, random);
        fill(x_at, dtype, dim, random);
        for (const Metric metric : kMetrics) check_pair(tables, metric, dtype, q_at, x_at, dim);
      }
    }
  }
}

TEST(largest_integer_sums) {
  const std::vector<NamedTable> tables = tables_here();
  std::vector<std::byte> query(kMaxDim), x(kMaxDim);
  for (const int q_value : {-128, 127, 255}) {
    for (const int x_value : {-128, 127, 255, 0}) {
      std::fill(query.begin(), query.end(), static_cast<std::byte>(q_value));
      std::fill(x.begin(), x.end(), static_cast<std::byte>(x_value));
      for (const Dtype dtype : {Dtype::i8, Dtype::u8})
        for (const Metric metric : kMetrics)
          for (const size_t dim : {size_t{kMaxDim}, size_t{kMaxDim} - 1})
            check_pair(tables, metric, dtype, query.data(), x.data(), dim);
    }
  }
}

// Where each half stands alone among zeros, the inner product with ones is its value.
TEST(every_half_value) {
  constexpr size_t kDim = 33;  // one whole block of sums and a tail of one
  const std::vector<float> ones(kDim, 1.0f);
  for (const NamedTable& table : tables_here()) {
    const DistanceFn ip = table.kernels->distance_of(Metric::ip, Dtype::f16);
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
      const double expected = value_of_half(static_cast<uint16_t>(bits));
      for (const size_t place : {size_t{bits % 32}, kDim - 1}) {
        uint16_t x[kDim] = {};
        x[place] = static_cast<uint16_t>(bits);
        const double got = -ip(ones.data(), x, kDim);
        const bool same = std::isnan(expected) ? std::isnan(got) : got == expected;
        if (!same)
          check::fail(__FILE__, __LINE__,
                      table.name + " half " + std::to_string(bits) + " is " + check::show(got) +
                          ", not " + check::show(expected));
      }
    }
  }
}

TEST(cosine_edges) {
  for (const NamedTable& table : tables_here()) {
    const std::vector<float> zero(7), one(7, 1.0f), tiny(7, 1e-18f), huge(7, 1e18f), minus(7, -3.f);
    const DistanceFn cosine = table.kernels->distance_of(Metric::cosine, Dtype::f32);
    CHECK_EQ(cosine(zero.data(), one.data(), 7), 1.0f);
    CHECK_EQ(cosine(one.data(), zero.data(), 7), 1.0f);
    CHECK_EQ(cosine(zero.data(), zero.data(), 7), 1.0f);
    CHECK_NEAR(cosine(tiny.data(), huge.data(), 7), 0, 1e-6);
    CHECK_NEAR(cosine(huge.data(), minus.data(), 7), 2, 1e-6);
    CHECK(cosine(huge.data(), minus.data(), 7) <= 2.0f);
    const std::vector<int8_t> zero_bytes(5), bytes{1, -2, 3, -4, 5};
    const DistanceFn of_bytes = table.kernels->distance_of(Metric::cosine, Dtype::i8);
    CHECK_EQ(of_bytes(zero_bytes.data(), bytes.data(), 5), 1.0f);
    CHECK_EQ(of_bytes(bytes.data(), bytes.data(), 5), 0.0f);
  }
}

}  // namespace
}  // namespace bigrain::simd
