// SPDX-License-Identifier: Apache-2.0
#include "quant/code_space.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "check.h"
#include "graph_fixture.h"
#include "quant/scalar8.h"

namespace bigrain {
namespace {

// Share of the 20 nearest by the metric that are among the 30 nearest by codes, over 20 queries.
double overlap(Metric metric, size_t dim) {
  const size_t count = 500;
  std::vector<float> base = check::random_vectors(count, dim, 7);
  for (size_t i = 0; i < count; ++i) {  // varied norms: the hard case of inner product
    for (size_t j = 0; j < dim; ++j) base[i * dim + j] *= 0.2f + static_cast<float>(i % 10);
  }
  const check::EncodedSet set(base, dim, metric);
  const simd::Kernels& kernels = simd::active_kernels();
  const quant::CodeSpace space(set.parts, kernels);
  const simd::DistanceFn distance = kernels.distance_of(metric, Dtype::f32);
  size_t hits = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const std::vector<float> query = check::random_vectors(1, dim, 100 + seed);
    std::vector<float> codes(count), exact(count);
    quant::MapScratch scratch;
    Buffer buffer(set.stride());
    const simd::CodeQuery code = quant::prepare(space.map_query(query.data(), scratch),
                                                set.stride(), buffer.as<int8_t>().data());
    std::vector<uint32_t> by_code(count), by_metric(count);
    std::iota(by_code.begin(), by_code.end(), 0u);
    std::iota(by_metric.begin(), by_metric.end(), 0u);
    kernels.score_codes(code, set.codes().records, set.stride(), by_code.data(), count,
                        codes.data());
    for (size_t i = 0; i < count; ++i) exact[i] = distance(query.data(), &base[i * dim], dim);
    std::sort(by_code.begin(), by_code.end(),
              [&](uint32_t a, uint32_t b) { return codes[a] < codes[b]; });
    std::sort(by_metric.begin(), by_metric.end(),
              [&](uint32_t a, uint32_t b) { return exact[a] < exact[b]; });
    for (size_t i = 0; i < 20; ++i) {
      hits += static_cast<size_t>(std::count(by_code.begin(), by_code.begin() + 30, by_metric[i]));
    }
  }
  return static_cast<double>(hits) / 400;
}

TEST(code_distances_rank_as_the_metric_does) {
  for (size_t dim : {8u, 56u, 57u, 100u}) {
    CHECK(overlap(Metric::l2, dim) > 0.97);
    CHECK(overlap(Metric::cosine, dim) > 0.97);
    CHECK(overlap(Metric::ip, dim) > 0.97);
  }
}

TEST(codes_do_not_depend_on_threads) {
  const std::vector<float> base = check::random_vectors(5'000, 24, 8);
  for (Metric metric : {Metric::l2, Metric::ip, Metric::cosine}) {
    check::EncodedSet one(base, 24, metric), seven(base, 24, metric);
    Monitor monitor;
    quant::fit_mean(seven.parts, 7, monitor);
    quant::encode_all(seven.parts, simd::active_kernels(), 7, monitor);
    CHECK(std::memcmp(one.parts.codes.data(), seven.parts.codes.data(), one.parts.codes.size()) ==
          0);
  }
}

TEST(a_zero_vector_has_no_cosine) {
  std::vector<float> base = check::random_vectors(10, 4, 9);
  std::fill_n(base.begin() + 8, 4, 0.0f);
  CHECK_THROWS(check::EncodedSet(base, 4, Metric::cosine), ErrorKind::invalid_argument);
}

}  // namespace
}  // namespace bigrain
