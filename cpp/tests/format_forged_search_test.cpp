// SPDX-License-Identifier: Apache-2.0
// Searching what a forged file left in memory: with every checksum right and verify=header or off,
// nothing has looked at the content before the search does. Sanitizers make this test sharp.
#include <cmath>
#include <set>

#include "bigrain/index.h"
#include "check.h"
#include "format_fixture.h"

namespace bigrain {
namespace {

using namespace fixture;

Bytes small_index(const Shape& shape, Random& random) {
  Buffer vectors = random_vectors(shape, random);
  const MatrixView view{vectors.data(), shape.count, shape.dim, shape.dtype};
  BuildParams params;
  params.metric = shape.metric;
  params.degree = shape.degree;
  params.build_width = 16;
  params.code_dim = shape.code_dim;
  Monitor monitor;
  return Index::build(view, nullptr, params, monitor).to_bytes();
}

// One to eight words of one section replaced by something likely to hurt.
Bytes forge(Bytes bytes, Random& random) {
  constexpr uint32_t kWords[] = {0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FC00000, 0x7F7FFFFF};
  const format::RawHeader raw = header_of(bytes);
  const format::RawSection& section = raw.sections[below(random, raw.section_count)];
  for (uint64_t n = 1 + below(random, 8); n > 0; --n) {
    const uint64_t offset = below(random, section.length) & ~uint64_t{3};
    const uint32_t word = random() % 4 == 0 ? static_cast<uint32_t>(random())
                                            : kWords[below(random, std::size(kWords))];
    std::memcpy(bytes.data() + section.offset + offset, &word,
                std::min<uint64_t>(sizeof word, section.length - offset));
  }
  reseal(bytes);
  return bytes;
}

// Every id is a point or -1, and no point comes twice. False if the search refused.
bool search_and_check(const Index& index, const Shape& shape, const Buffer& queries,
                      size_t query_count, Verify verify) {
  constexpr uint32_t kK = 8;
  const Dtype dtype = shape.dtype == Dtype::f16 ? Dtype::f32 : shape.dtype;
  const MatrixView view{queries.data(), query_count, shape.dim, dtype};
  std::vector<int64_t> ids(query_count * kK);
  std::vector<float> distances(query_count * kK);
  Monitor monitor;
  try {
    index.search(view, {.k = kK, .width = 20, .threads = 1},
                 {ids.data(), distances.data(), nullptr}, monitor);
  } catch (const Error& error) {
    CHECK_EQ(error.kind(), ErrorKind::corrupt);
    // A forged projection may be of finite numbers, and too large.
    CHECK(verify != Verify::full || contains(error.what(), "section projection"));
    return false;
  }
  for (size_t query = 0; query < query_count; ++query) {
    std::set<int64_t> seen;
    for (size_t i = query * kK; i < (query + 1) * kK; ++i) {
      CHECK(ids[i] >= -1 && ids[i] < static_cast<int64_t>(shape.count));
      CHECK(ids[i] == -1 || seen.insert(ids[i]).second);
      CHECK(verify != Verify::full || !std::isnan(distances[i]));
    }
  }
  return true;
}

TEST(forged_content_never_leads_out_of_bounds) {
  Random random(8);
  const Shape shapes[] = {{.dim = 16, .count = 300, .degree = 8},
                          {.metric = Metric::ip, .dim = 7, .count = 200, .degree = 4},
                          {.metric = Metric::cosine, .dtype = Dtype::f16, .dim = 70, .count = 150},
                          {.dtype = Dtype::i8, .dim = 33, .count = 100, .degree = 6},
                          {.dim = 40, .count = 150, .degree = 6, .code_dim = 24}};
  uint64_t opened[3] = {}, answered[3] = {}, projected = 0;
  for (const Shape& shape : shapes) {
    const Bytes intact = small_index(shape, random);
    Shape query_shape = shape;
    query_shape.count = 4;
    if (shape.dtype == Dtype::f16) query_shape.dtype = Dtype::f32;
    const Buffer queries = random_vectors(query_shape, random);
    for (int i = 0; i < 1'000; ++i) {
      const Bytes bytes = forge(intact, random);
      for (const Verify verify : {Verify::full, Verify::header, Verify::off}) {
        Monitor monitor;
        const auto at = static_cast<size_t>(verify);
        try {
          const Index index = Index::from_bytes(bytes, verify, monitor);
          ++opened[at];
          const bool answers = search_and_check(index, shape, queries, 4, verify);
          answered[at] += answers;
          projected += verify == Verify::full && !answers;
        } catch (const Error& error) {
          CHECK_EQ(error.kind(), ErrorKind::corrupt);
        }
      }
    }
  }
  // The forgeries are real: full verification refuses some that header verification lets in, and
  // of those, searches refuse some.
  CHECK(opened[0] < opened[1]);
  CHECK(answered[1] < opened[1]);
  CHECK_EQ(answered[0] + projected, opened[0]);
  CHECK(projected > 0);
  CHECK_EQ(opened[1], opened[2]);
}

}  // namespace
}  // namespace bigrain
