// SPDX-License-Identifier: Apache-2.0
#include "quant/scalar8.h"

#include <limits>
#include <vector>

#include "check.h"
#include "graph_fixture.h"

namespace bigrain {
namespace {

constexpr size_t kStride = 128;

TEST(codes_reproduce_the_vector_within_half_a_step) {
  const std::vector<float> x = check::random_vectors(1, 100, 3);
  Buffer record(kStride);
  quant::encode(x, Metric::l2, kStride, record.data());
  const quant::CodeConstants constants = quant::constants_of(record.data(), kStride);
  double norm = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const int code = record.as<int8_t>()[i];
    CHECK(code >= -127 && code <= 127);
    CHECK_NEAR(constants.scale * static_cast<float>(code), x[i], 0.501 * constants.scale);
    norm += double{x[i]} * x[i];
  }
  CHECK_NEAR(constants.bias, norm, 0.02 * norm);
  for (size_t i = x.size(); i < kStride - sizeof(constants); ++i) {
    CHECK_EQ(record.as<int8_t>()[i], 0);
  }
}

TEST(a_stored_record_and_its_vector_prepare_alike) {
  const std::vector<float> x = check::random_vectors(1, 100, 4);
  Buffer record(kStride), a(kStride), b(kStride);
  quant::encode(x, Metric::l2, kStride, record.data());
  float offset = 0;
  const simd::CodeQuery from_vector = quant::prepare(x, kStride, a.as<int8_t>().data());
  const simd::CodeQuery from_record =
      quant::prepare_record(record.data(), kStride, b.as<int8_t>().data(), &offset);
  CHECK_EQ(offset, quant::constants_of(record.data(), kStride).bias);
  CHECK_EQ(from_vector.sum, from_record.sum);
  CHECK_EQ(from_vector.factor, from_record.factor);
  CHECK(std::memcmp(a.data(), b.data(), kStride) == 0);
}

TEST(zero_and_denormal_vectors_have_zero_codes) {
  for (float value : {0.0f, 1e-42f}) {
    const std::vector<float> x(5, value);
    Buffer record(64);
    quant::encode(x, Metric::l2, 64, record.data());
    CHECK_EQ(quant::constants_of(record.data(), 64).scale, 0.0f);
    for (size_t i = 0; i < 56; ++i) CHECK_EQ(record.as<int8_t>()[i], 0);
  }
}

TEST(vectors_without_a_finite_norm_are_refused) {
  Buffer record(64);
  for (float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e30f}) {
    const std::vector<float> x(5, value);
    CHECK_THROWS(quant::encode(x, Metric::l2, 64, record.data()), ErrorKind::invalid_argument);
  }
}

}  // namespace
}  // namespace bigrain
