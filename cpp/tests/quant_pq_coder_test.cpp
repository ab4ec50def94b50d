// SPDX-License-Identifier: Apache-2.0
// The PQ codes of an index: scores against sums in double over decoded codes, bytes that do not
// depend on threads, and what damaged arrays do.
#include "quant/pq_coder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include "check.h"
#include "graph_fixture.h"
#include "quant/code_space.h"
#include "quant/opq.h"
#include "quant/pq_query.h"
#include "util/half.h"

namespace bigrain {
namespace {

using check::random_vectors;

IndexParts parts_of(size_t count, uint32_t dim, Metric metric, Dtype dtype = Dtype::f32) {
  IndexParts parts;
  parts.meta.metric = metric;
  parts.meta.dtype = dtype;
  parts.meta.dim = parts.meta.code_dim = dim;
  parts.meta.count = count;
  const std::vector<float> x = random_vectors(count, dim, dim);
  parts.vectors = Buffer(x.size() * item_size(dtype));
  if (dtype == Dtype::f32) {
    std::memcpy(parts.vectors.data(), x.data(), parts.vectors.size());
  } else {
    const std::span<int8_t> values = parts.vectors.as<int8_t>();
    for (size_t i = 0; i < x.size(); ++i) values[i] = static_cast<int8_t>(100 * x[i]);
  }
  Monitor monitor;
  quant::fit_mean(parts, 1, monitor);
  return parts;
}

void make_codes(IndexParts& parts, uint32_t bytes, uint32_t threads = 1) {
  Monitor monitor;
  quant::fit_pq(parts, bytes, threads, monitor);
  quant::encode_pq(parts, threads, monitor);
}

// Row `id` as its code says, rotated: pq_dim coordinates.
std::vector<double> decoded(const IndexParts& parts, uint32_t id) {
  const quant::PqShape shape{parts.meta.pq_dim, parts.meta.pq_bytes, 8};
  const std::span<const float> books = parts.pq_codebooks.as<float>();
  const std::span<const uint8_t> codes = parts.pq_codes.as<uint8_t>();
  std::vector<double> out;
  for (size_t sub = 0; sub < shape.subs; ++sub) {
    const size_t code = codes[id * shape.subs + sub];
    for (size_t t = 0; t < shape.length(sub); ++t)
      out.push_back(double{books[256 * shape.first(sub) + code * shape.length(sub) + t]});
  }
  return out;
}

std::vector<double> rotated(const IndexParts& parts, const void* query) {
  std::vector<float> centred(parts.meta.dim);
  quant::load_centred(parts, query, centred);
  const std::span<const float> rotation = parts.pq_rotation.as<float>();
  std::vector<double> out(parts.meta.pq_dim);
  for (size_t k = 0; k < centred.size(); ++k)
    for (size_t j = 0; j < out.size(); ++j)
      out[j] += double{centred[k]} * double{rotation[k * out.size() + j]};
  return out;
}

void check_scores(const IndexParts& parts) {
  const quant::PqSpace space(parts);
  quant::PqQuery query;
  std::vector<uint32_t> ids(61);
  std::iota(ids.begin(), ids.end(), 3u);
  std::reverse(ids.begin(), ids.end());
  for (const size_t at : {0, 7}) {
    const std::byte* row = parts.vectors.data() + at * parts.meta.dim * item_size(parts.meta.dtype);
    query.prepare(space, row);
    const std::vector<double> wanted = rotated(parts, row);
    for (size_t count = 0; count <= ids.size(); count += count < 9 ? 1 : 13) {
      std::vector<float> scores(count + 1, -1.0f);
      query.score(parts.pq_codes.as<uint8_t>().data(), std::span(ids).first(count), scores.data());
      CHECK_EQ(scores[count], -1.0f);
      for (size_t i = 0; i < count; ++i) {
        const std::vector<double> code = decoded(parts, ids[i]);
        double square = 0, product = 0;
        for (size_t j = 0; j < code.size(); ++j) {
          square += (code[j] - wanted[j]) * (code[j] - wanted[j]);
          product += code[j] * wanted[j];
        }
        const double expected = parts.meta.metric == Metric::ip ? -2 * product : square;
        CHECK_NEAR(scores[i], expected, 3e-3 * (1 + std::abs(expected)));
      }
    }
  }
}

TEST(scores_are_those_of_decoded_codes) {
  for (const Metric metric : {Metric::l2, Metric::ip, Metric::cosine}) {
    for (const uint32_t dim : {1u, 3u, 64u, 100u, 300u}) {
      IndexParts parts = parts_of(700, dim, metric);
      make_codes(parts, 0);
      CHECK_EQ(parts.meta.pq_bytes, std::min((dim + 1) / 2, 64u));
      CHECK_EQ(parts.meta.pq_dim, std::min(dim, 256u));
      check_scores(parts);
    }
  }
  IndexParts parts = parts_of(700, 40, Metric::l2, Dtype::i8);
  make_codes(parts, 7);
  CHECK_EQ(parts.meta.pq_dim, 28u);
  check_scores(parts);
}

// Arrays as training would give them: of vectors as they are, in a rotation of no special kind.
void give_codes(IndexParts& parts, uint32_t bytes, uint32_t columns) {
  IndexMeta& meta = parts.meta;
  quant::fit_pq(parts, meta.dim, 1, *std::make_unique<Monitor>());  // orthonormal columns
  CHECK_EQ(meta.pq_dim, meta.dim);
  std::vector<float> rotation;
  for (size_t k = 0; k < meta.dim; ++k)
    for (size_t j = 0; j < columns; ++j)
      rotation.push_back(parts.pq_rotation.as<float>()[k * meta.dim + j]);
  parts.pq_rotation = Buffer(rotation.size() * sizeof(float));
  std::memcpy(parts.pq_rotation.data(), rotation.data(), parts.pq_rotation.size());
  const std::vector<float> books = random_vectors(256, columns, 3);
  parts.pq_codebooks = Buffer(books.size() * sizeof(float));
  std::memcpy(parts.pq_codebooks.data(), books.data(), parts.pq_codebooks.size());
  meta.pq_bytes = bytes;
  meta.pq_dim = columns;
  meta.pq_given = true;
}

// Codes as quant::Opq makes them of the vectors, bit by bit, and scores in float32 throughout.
TEST(given_codes_are_of_vectors_as_they_are) {
  for (const Metric metric : {Metric::l2, Metric::ip, Metric::cosine}) {
    IndexParts parts = parts_of(900, 60, metric);
    for (float& value : parts.vectors.as<float>()) value += 3;  // a mean to be forgotten
    Monitor monitor;
    quant::fit_mean(parts, 1, monitor);
    give_codes(parts, 7, 40);
    quant::encode_pq(parts, 1, monitor);
    std::vector<float> rows(900 * 60);
    for (size_t i = 0; i < 900; ++i) {
      const std::span<float> row = std::span(rows).subspan(i * 60, 60);
      quant::load_normalised(metric, Dtype::f32, parts.vectors.as<float>().data() + i * 60, row);
    }
    const std::span<const float> rotation = parts.pq_rotation.as<float>();
    const std::span<const float> books = parts.pq_codebooks.as<float>();
    const quant::Opq opq({rotation.begin(), rotation.end()}, 60,
                         quant::Pq({40, 7, 8}, {books.begin(), books.end()}));
    std::vector<uint8_t> codes(900 * 7);
    opq.encode({rows.data(), 900, 60, Dtype::f32}, codes.data(), 1, monitor);
    CHECK(std::memcmp(codes.data(), parts.pq_codes.data(), codes.size()) == 0);

    const quant::PqSpace space(parts);
    quant::PqQuery query;
    query.prepare(space, parts.vectors.data());
    std::vector<uint32_t> ids(900);
    std::iota(ids.begin(), ids.end(), 0u);
    std::vector<float> scores(900), decoded(rows.size());
    query.score(parts.pq_codes.as<uint8_t>().data(), ids, scores.data());
    opq.decode(codes.data(), 900, decoded.data(), 1, monitor);
    double whole = 0, seen = 0;
    for (size_t k = 0; k < 60; ++k) whole += double{rows[k]} * double{rows[k]};
    for (size_t j = 0; j < 40; ++j) {
      double sum = 0;
      for (size_t k = 0; k < 60; ++k) sum += double{rows[k]} * double{rotation[k * 40 + j]};
      seen += sum * sum;
    }
    for (size_t i = 0; i < 900; ++i) {
      double product = 0, square = 0;
      for (size_t k = 0; k < 60; ++k) {
        const double x = double{rows[k]}, y = double{decoded[i * 60 + k]};
        product += x * y;
        square += (x - y) * (x - y);
      }
      // What lies outside the rotation's columns no code tells.
      const double expected = metric == Metric::l2 ? square - (whole - seen) : -2 * product;
      CHECK_NEAR(scores[i], expected, 1e-5 * (whole + std::abs(expected)));
    }
  }
}

TEST(the_same_bytes_for_every_number_of_threads) {
  IndexParts one = parts_of(2'000, 90, Metric::l2), many = parts_of(2'000, 90, Metric::l2);
  make_codes(one, 16, 1);
  make_codes(many, 16, 5);
  const auto same = [](const Buffer& a, const Buffer& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
  };
  CHECK(same(one.pq_rotation, many.pq_rotation));
  CHECK(same(one.pq_codebooks, many.pq_codebooks));
  CHECK(same(one.pq_codes, many.pq_codes));
}

TEST(columns_are_orthonormal) {
  IndexParts parts = parts_of(1'000, 120, Metric::cosine);
  make_codes(parts, 8);
  const size_t columns = parts.meta.pq_dim;
  CHECK_EQ(columns, 32u);
  const std::span<const float> rotation = parts.pq_rotation.as<float>();
  for (size_t a = 0; a < columns; ++a) {
    for (size_t b = 0; b <= a; ++b) {
      double product = 0;
      for (size_t k = 0; k < 120; ++k)
        product += double{rotation[k * columns + a]} * double{rotation[k * columns + b]};
      CHECK_NEAR(product, a == b ? 1 : 0, 1e-4);
    }
  }
}

// Of clustered vectors, a tenth of the coordinates as bytes keep nine tenths of the variance.
TEST(codes_keep_most_of_the_variance) {
  IndexParts parts = parts_of(3'000, 160, Metric::l2);
  make_codes(parts, 16);
  double lost = 0, whole = 0;
  std::vector<float> centred(parts.meta.dim);
  for (uint32_t i = 0; i < 300; ++i) {
    const std::byte* row = parts.vectors.data() + i * 160 * sizeof(float);
    quant::load_centred(parts, row, centred);
    const std::vector<double> code = decoded(parts, i), seen = rotated(parts, row);
    for (const float x : centred) whole += double{x} * double{x};
    for (size_t j = 0; j < code.size(); ++j)
      lost += (seen[j] - code[j]) * (seen[j] - code[j]) - seen[j] * seen[j];
  }
  CHECK((whole + lost) / whole < 0.25);
}

TEST(few_points_have_no_codes) {
  IndexParts parts = parts_of(255, 8, Metric::l2);
  parts.meta.pq_bytes = 4;
  make_codes(parts, 0);
  CHECK_EQ(parts.meta.pq_bytes, 0u);
  CHECK_EQ(parts.pq_codes.size(), 0u);
  IndexParts enough = parts_of(256, 8, Metric::l2);
  make_codes(enough, 0);
  CHECK_EQ(enough.pq_codes.size(), 256u * 4);
}

TEST(equal_points_have_equal_scores) {
  IndexParts parts = parts_of(400, 8, Metric::l2);
  std::fill_n(parts.vectors.as<float>().data(), 400 * 8, 2.0f);
  Monitor monitor;
  quant::fit_mean(parts, 1, monitor);
  make_codes(parts, 0);
  const quant::PqSpace space(parts);
  quant::PqQuery query;
  query.prepare(space, parts.vectors.data());
  const std::vector<uint32_t> ids{1, 2, 399};
  float scores[3];
  query.score(parts.pq_codes.as<uint8_t>().data(), ids, scores);
  for (const float score : scores) CHECK_NEAR(score, 0, 1e-6);
}

TEST(damaged_arrays) {
  IndexParts parts = parts_of(300, 8, Metric::l2);
  make_codes(parts, 0);
  parts.pq_codebooks.as<float>()[3] = std::numeric_limits<float>::infinity();
  CHECK_THROWS(quant::PqCoder(parts), ErrorKind::corrupt);
  // Searches do not look at every value: scores are then NaN or anything, and nothing else.
  const quant::PqSpace space(parts);
  quant::PqQuery query;
  query.prepare(space, parts.vectors.data());
  parts.pq_codebooks = Buffer(12);
  CHECK_THROWS(quant::PqSpace(parts), ErrorKind::corrupt);
}

}  // namespace
}  // namespace bigrain
