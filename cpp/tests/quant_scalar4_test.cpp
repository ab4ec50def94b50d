// SPDX-License-Identifier: Apache-2.0
// 4-bit records, and ScalarQuantizer over both widths.
#include "quant/scalar4.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "check.h"
#include "quant/scalar_quantizer.h"
#include "quant_fixture.h"
#include "util/buffer.h"

namespace bigrain {
namespace {

using check::encode_all;
using check::exact_distance;
using check::gaussian_vectors;
using check::view_of;

quant::ScalarQuantizer fitted(const std::vector<float>& x, size_t dim, uint32_t bits) {
  Monitor monitor;
  return {bits, quant::Frame::fit(view_of(x, dim), 3, 1, monitor)};
}

struct Record {
  explicit Record(const std::vector<float>& x)
      : stride(quant::code4_stride(static_cast<uint32_t>(x.size()))), bytes(stride) {
    quant::GridSearch search(4);
    quant::encode4(x, Metric::l2, search, bytes.data());
  }
  size_t stride;
  Buffer bytes;
};

TEST(codes_are_the_least_squares_ones) {
  for (const size_t dim : {1, 2, 55, 56, 57, 111, 112, 113, 128, 240, 241, 784}) {
    const std::vector<float> x = gaussian_vectors(1, dim, 1);
    const Record record(x);
    std::vector<float> back(dim);
    quant::decode4(record.bytes.data(), back);
    double error = 0, norm = 0, along = 0, code_norm = 0;
    for (size_t i = 0; i < dim; ++i) {
      error += (double{x[i]} - back[i]) * (double{x[i]} - back[i]);
      norm += double{x[i]} * x[i];
      along += double{x[i]} * back[i];
      code_norm += double{back[i]} * back[i];
    }
    CHECK(error < 0.0130 * norm);               // 0.0115: the best of any uniform 4-bit quantizer
    CHECK_NEAR(along, code_norm, 1e-5 * norm);  // the error is at right angles to the code
    const float bias = quant::constants_of(record.bytes.data(), record.stride).bias;
    CHECK_NEAR(bias, code_norm, 1e-5 * norm);
  }
}

TEST(scores_are_distances_between_what_codes_stand_for) {
  const simd::Kernels& kernels = simd::active_kernels();
  const uint32_t id = 0;
  for (const size_t dim : {1, 56, 57, 112, 113, 300}) {
    const std::vector<float> x = gaussian_vectors(1, dim, 2), y = gaussian_vectors(1, dim, 3);
    const Record a(x), b(y);
    std::vector<float> a_back(dim), b_back(dim);
    quant::decode4(a.bytes.data(), a_back);
    quant::decode4(b.bytes.data(), b_back);
    Buffer buffer(2 * a.stride);
    int8_t* const query = buffer.as<int8_t>().data();
    float score = 0, offset = 0;
    const auto ask = [&](const simd::CodeQuery& prepared, const Record& record) {
      kernels.score_codes4(prepared, record.bytes.data(), record.stride, &id, 1, &score);
      return score + offset;
    };
    const double norm = 1 + exact_distance(x.data(), y.data(), dim, Metric::l2);
    const auto count = static_cast<uint32_t>(dim);
    CHECK_NEAR(ask(quant::prepare_record4(a.bytes.data(), count, query, &offset), b),
               exact_distance(a_back.data(), b_back.data(), dim, Metric::l2), 1e-5 * norm);
    CHECK_EQ(ask(quant::prepare_record4(a.bytes.data(), count, query, &offset), a), 0.0f);
    CHECK_NEAR(ask(quant::prepare4(x, query, &offset), b),
               exact_distance(x.data(), b_back.data(), dim, Metric::l2), 0.02 * norm);
  }
}

TEST(vectors_of_zero_or_infinite_norm) {
  for (const float value : {0.0f, 1e-21f}) {
    const Record record(std::vector<float>(5, value));
    CHECK_EQ(quant::constants_of(record.bytes.data(), record.stride).scale, 0.0f);
  }
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e30f}) {
    CHECK_THROWS(Record(std::vector<float>(5, value)), ErrorKind::invalid_argument);
  }
}

TEST(distances_of_both_widths) {
  for (const uint32_t bits : {4u, 8u}) {
    for (const size_t dim : {1, 3, 56, 113, 784}) {
      for (const float scale : {1e-15f, 1.0f, 1e15f}) {
        std::vector<float> x = gaussian_vectors(150, dim, 4), q = gaussian_vectors(3, dim, 5);
        for (float& value : x) value = scale * (value + 0.5f);
        for (float& value : q) value = scale * (value + 0.5f);
        const quant::ScalarQuantizer quantizer = fitted(x, dim, bits);
        const std::vector<float> back =
            check::decode_all(quantizer, encode_all(quantizer, x, dim), dim);
        for (const Metric metric : {Metric::l2, Metric::ip, Metric::cosine}) {
          const std::vector<float> got = check::distances_of(quantizer, x, q, dim, metric);
          const double unit =
              metric == Metric::cosine ? 1 : static_cast<double>(dim) * scale * double{scale};
          for (size_t i = 0; i < 3 * 150; ++i) {
            const float* const other = &back[i % 150 * dim];
            const double truth = exact_distance(other, &q[i / 150 * dim], dim, metric);
            CHECK_NEAR(got[i], truth, 0.05 * unit);  // the query has 8 bits
          }
        }
      }
    }
  }
}

TEST(threads_do_not_change_a_byte) {
  const size_t dim = 33;
  const std::vector<float> x = gaussian_vectors(3000, dim, 9), q = gaussian_vectors(300, dim, 10);
  for (const uint32_t bits : {4u, 8u}) {
    const quant::ScalarQuantizer quantizer = fitted(x, dim, bits);
    CHECK(encode_all(quantizer, x, dim, 1) == encode_all(quantizer, x, dim, 7));
    CHECK(check::distances_of(quantizer, x, q, dim, Metric::l2, 1) ==
          check::distances_of(quantizer, x, q, dim, Metric::l2, 7));
  }
  CHECK_THROWS(fitted(x, dim, 6), ErrorKind::invalid_argument);
}

}  // namespace
}  // namespace bigrain
