// SPDX-License-Identifier: Apache-2.0
// The fast layout against its definition in doubles, the rate of its estimate, searches with it.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "bigrain/index.h"
#include "check.h"
#include "graph_fixture.h"
#include "quant/neighbour_blocks.h"
#include "quant/scalar8.h"
#include "util/half.h"

namespace bigrain {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

MatrixView view_of(const std::vector<float>& vectors, size_t dim) {
  return {vectors.data(), vectors.size() / dim, dim, Dtype::f32};
}

Index build(const std::vector<float>& vectors, size_t dim, Metric metric, uint32_t degree = 32) {
  Monitor monitor;
  BuildParams params;
  params.metric = metric;
  params.degree = degree;
  return Index::build(view_of(vectors, dim), nullptr, params, monitor);
}

// In float, as the layout has it: the sign of a difference near zero hangs on the rounding.
std::vector<float> decode(const IndexParts& parts, uint32_t id) {
  const size_t stride = code_stride(parts.meta.code_dim);
  const std::byte* record = parts.codes.data() + id * stride;
  std::vector<float> x;
  for (size_t j = 0; j < parts.meta.code_dim; ++j) {
    x.push_back(quant::constants_of(record, stride).scale *
                static_cast<float>(static_cast<int8_t>(record[j])));
  }
  return x;
}

// The score of u, and what its signs alone say of it, less the benefit of the doubt.
struct Scores {
  double exact = 0, bound = 0;
  double span = 0;  // how much the estimate varies with the direction of the query
};

Scores score_of(const IndexParts& parts, const std::vector<float>& q, uint32_t v, uint32_t u,
                double vertex_score) {
  const bool centred = parts.meta.metric != Metric::ip;
  const std::vector<float> xv = decode(parts, v), xu = decode(parts, u);
  double square = 0, magnitude = 0, along_q = 0, along_v = 0, norm = 0, dot = 0, own = 0;
  for (size_t j = 0; j < xv.size(); ++j) {
    const double r = xu[j] - xv[j];
    const double sign = r >= 0 ? 1 : -1;
    square += r * r;
    magnitude += std::fabs(r);
    along_q += sign * q[j];
    along_v += sign * xv[j];
    norm += static_cast<double>(q[j]) * q[j];
    dot += static_cast<double>(xu[j]) * q[j];
    own += static_cast<double>(xu[j]) * xu[j];
  }
  const double factor = magnitude > 0 ? square / magnitude : 0;
  const double away = std::sqrt(std::max(0.0, centred ? vertex_score + norm : norm));
  const double slack = quant::kGateErrors * std::sqrt(1 - 2 / std::acos(-1.0)) * away;
  const double estimate =
      vertex_score + (centred ? square + 2 * factor * along_v : 0) - 2 * factor * along_q;
  return {(centred ? own : 0) - 2 * dot, estimate - 2 * factor * slack,
          2 * factor * std::sqrt(norm)};
}

// Asks about every edge of some vertices; body(scores, passes(limit)).
template <class Body>
void for_edges(const IndexParts& parts, size_t queries, Body&& body) {
  const simd::Kernels& kernels = simd::active_kernels();
  const quant::NeighbourBlocks blocks(parts, kernels);
  const uint32_t* graph = parts.graph.as<uint32_t>().data();
  Rng rng(7);
  for (size_t i = 0; i < queries; ++i) {
    std::vector<float> q;
    for (float x : decode(parts, static_cast<uint32_t>(rng.bounded(parts.meta.count)))) {
      q.push_back(x + 0.02f * (rng.uniform() - 0.5f));
    }
    quant::SignQuery signs;
    signs.prepare(q, parts.meta.metric);
    const auto v = static_cast<uint32_t>(rng.bounded(parts.meta.count));
    const double score = score_of(parts, q, v, v, 0).exact;
    for (size_t j = 0; j < parts.meta.degree && graph[v * parts.meta.degree + j] != v; ++j) {
      const Scores scores = score_of(parts, q, v, graph[v * parts.meta.degree + j], score);
      body(scores, [&](double limit) {
        const uint32_t mask =
            blocks.near(signs, v, j / 32, static_cast<float>(score), static_cast<float>(limit));
        return (mask >> j % 32 & 1) != 0;
      });
    }
  }
}

TEST(estimates_equal_the_formula) {
  for (Metric metric : {Metric::l2, Metric::ip, Metric::cosine}) {
    for (size_t dim : {1u, 7u, 20u, 101u}) {
      for (uint32_t degree : {5u, 20u, 32u, 48u, 64u}) {
        Index index = build(check::random_vectors(300, dim, dim), dim, metric, degree);
        Monitor monitor;
        index.set_layout(Layout::fast, 1, monitor);
        size_t wrong = 0;
        for_edges(index.parts(), 20, [&](const Scores& scores, auto&& passes) {
          // Tables round each coordinate by 1 / 506 of the largest four's sum: 1.5 % of the span.
          const double tolerance = 0.06 * scores.span + 1e-3 * (1 + std::fabs(scores.bound));
          wrong += passes(scores.bound + tolerance) && !passes(scores.bound - tolerance) ? 0 : 1;
        });
        CHECK_EQ(wrong, 0u);
      }
    }
  }
}

TEST(half_below_is_the_next_half_down) {
  std::vector<float> values;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = half_to_float(static_cast<uint16_t>(bits));
    if (std::isfinite(value)) values.push_back(value);
  }
  std::sort(values.begin(), values.end());
  for (size_t i = 0; i + 1 < values.size(); ++i) {
    if (values[i] == values[i + 1]) continue;  // the two zeros
    const float middle = values[i] + (values[i + 1] - values[i]) / 2;
    CHECK_EQ(half_to_float(half_below(values[i])), values[i]);
    CHECK_EQ(half_to_float(half_below(middle)), values[i]);
    CHECK_EQ(half_to_float(half_below(std::nextafter(values[i + 1], -kInfinity))), values[i]);
  }
  CHECK_EQ(half_to_float(half_below(kInfinity)), 65504.0f);
  CHECK_EQ(half_to_float(half_below(65505.0f)), 65504.0f);
  CHECK_EQ(half_to_float(half_below(-65505.0f)), -kInfinity);
  CHECK(std::isnan(half_to_float(half_below(std::nanf("")))));
}

// One far vector does not take the others' bits, and no neighbour is lost to rounding.
TEST(scales_far_apart_keep_neighbours) {
  const size_t dim = 24;
  for (float scale : {1e-12f, 1.0f, 1e12f}) {
    std::vector<float> vectors = check::random_vectors(1'000, dim, 4);
    for (size_t i = 0; i < vectors.size(); ++i) {
      const size_t group = i / dim % 3;  // near, 1,000 times as wide, and a few far off
      vectors[i] *= scale * (group == 0 ? 1.0f : group == 1 ? 1e3f : 1.0f);
      if (i / dim % 100 == 99) vectors[i] += 1e6f * scale;
    }
    Index index = build(vectors, dim, Metric::l2);
    Monitor monitor;
    SearchParams params;
    params.width = 200;
    const MatrixView queries = view_of(vectors, dim);
    std::vector<int64_t> ids(queries.rows * 10);
    std::vector<float> distances[2];
    for (Layout layout : {Layout::compact, Layout::fast}) {
      std::vector<float>& found = distances[static_cast<size_t>(layout)];
      found.resize(ids.size());
      index.set_layout(layout, 1, monitor);
      index.search(queries, params, {ids.data(), found.data(), nullptr}, monitor);
    }
    // Codes tell near points apart badly here, so either layout wins some.
    size_t better = 0, worse = 0;
    for (size_t i = 9; i < ids.size(); i += 10) {
      better += distances[1][i] < distances[0][i] ? 1 : 0;
      worse += distances[1][i] > distances[0][i] ? 1 : 0;
    }
    CHECK(worse <= better + queries.rows * 5 / 100);
  }
}

TEST(places_past_the_end_of_a_row_never_pass) {
  Index index = build(check::random_vectors(9, 12, 3), 12, Metric::l2, 40);
  Monitor monitor;
  index.set_layout(Layout::fast, 1, monitor);
  const IndexParts& parts = index.parts();
  const quant::NeighbourBlocks blocks(parts, simd::active_kernels());
  quant::SignQuery signs;
  signs.prepare(std::vector<float>(12, 0.1f), Metric::l2);
  for (uint32_t v = 0; v < 9; ++v) {
    const uint32_t* row = parts.graph.as<uint32_t>().data() + size_t{v} * 40;
    const auto degree = static_cast<uint32_t>(std::find(row, row + 40, v) - row);
    CHECK_EQ(blocks.near(signs, v, 0, 0, kInfinity), (uint32_t{1} << degree) - 1);
    CHECK_EQ(blocks.near(signs, v, 1, 0, kInfinity), 0u);
  }
}

// Half a standard error of doubt: a neighbour at the very limit passes with a chance of Phi(0.5).
TEST(the_bound_holds_at_its_rate) {
  Index index = build(check::random_vectors(2'000, 96, 5), 96, Metric::l2);
  Monitor monitor;
  index.set_layout(Layout::fast, 1, monitor);
  size_t held = 0, edges = 0;
  for_edges(index.parts(), 300, [&](const Scores& scores, auto&&) {
    held += scores.bound <= scores.exact ? 1 : 0;
    ++edges;
  });
  const double rate = static_cast<double>(held) / static_cast<double>(edges);
  CHECK_NEAR(rate, 0.69, 0.06);
}

TEST(blocks_are_the_same_for_every_number_of_threads) {
  Index index = build(check::random_vectors(3'000, 30, 6), 30, Metric::l2);
  Monitor monitor;
  const std::vector<std::byte> file = index.to_bytes();
  index.set_layout(Layout::fast, 1, monitor);
  const Buffer& blocks = index.parts().blocks;
  const std::vector<std::byte> expected(blocks.data(), blocks.data() + blocks.size());
  for (uint32_t threads : {2u, 7u}) {
    index.set_layout(Layout::fast, threads, monitor);
    CHECK(std::memcmp(index.parts().blocks.data(), expected.data(), expected.size()) == 0);
  }
  CHECK(index.to_bytes() == file);
  CHECK(index.layout() == Layout::fast);
  index.set_layout(Layout::compact, 1, monitor);
  CHECK_EQ(index.parts().blocks.size(), 0u);
}

TEST(wide_searches_find_the_same_in_both_layouts) {
  const size_t dim = 40;
  const std::vector<float> vectors = check::random_vectors(3'000, dim, 8);
  const MatrixView queries = view_of(vectors, dim);
  for (Metric metric : {Metric::l2, Metric::ip, Metric::cosine}) {
    Index index = build(vectors, dim, metric, 40);
    Monitor monitor;
    SearchParams params;
    params.width = 300;
    std::vector<int64_t> ids[2];
    std::vector<float> distances(queries.rows * 10);
    std::vector<QueryStats> stats(queries.rows);
    uint64_t codes[2] = {};
    for (Layout layout : {Layout::compact, Layout::fast}) {
      const auto which = static_cast<size_t>(layout);
      index.set_layout(layout, 2, monitor);
      ids[which].resize(queries.rows * 10);
      index.search(queries, params, {ids[which].data(), distances.data(), stats.data()}, monitor);
      for (const QueryStats& cost : stats) codes[which] += cost.code_distances;
    }
    size_t same = 0;
    for (size_t i = 0; i < ids[0].size(); ++i) same += ids[0][i] == ids[1][i] ? 1 : 0;
    CHECK(same >= ids[0].size() * 99 / 100);
    CHECK(codes[1] < codes[0]);
  }
}

TEST(a_damaged_graph_gives_an_error) {
  const std::vector<float> vectors = check::random_vectors(500, 8, 45);
  Index index = build(vectors, 8, Metric::l2);
  Monitor monitor;
  index.set_layout(Layout::fast, 1, monitor);
  auto& parts = const_cast<IndexParts&>(index.parts());
  uint32_t* row = parts.graph.as<uint32_t>().data() + size_t{parts.meta.entry} * parts.meta.degree;
  row[0] = 500;
  std::vector<int64_t> ids(5'000);
  std::vector<float> distances(5'000);
  CHECK_THROWS(index.search(view_of(vectors, 8), SearchParams{},
                            {ids.data(), distances.data(), nullptr}, monitor),
               ErrorKind::corrupt);
  index.set_layout(Layout::compact, 1, monitor);
  CHECK_THROWS(index.set_layout(Layout::fast, 2, monitor), ErrorKind::corrupt);
  CHECK(index.layout() == Layout::compact);
}

TEST(empty_and_tiny_indexes_take_the_layout) {
  for (size_t count : {0u, 1u, 2u}) {
    const std::vector<float> vectors(count * 3, 1.0f);
    Monitor monitor;
    Index index = Index::build({vectors.data(), count, 3, Dtype::f32}, nullptr, {}, monitor);
    index.set_layout(Layout::fast, 1, monitor);
    const std::vector<float> query(3, 1.0f);
    std::vector<int64_t> ids(10);
    std::vector<float> distances(10);
    index.search(view_of(query, 3), {}, {ids.data(), distances.data(), nullptr}, monitor);
    for (size_t i = 0; i < 10; ++i) CHECK_EQ(ids[i] >= 0, i < count);
  }
}

}  // namespace
}  // namespace bigrain
