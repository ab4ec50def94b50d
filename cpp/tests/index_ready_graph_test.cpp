// SPDX-License-Identifier: Apache-2.0
// An index around a graph that is there: taken as it is, refused where it cannot be walked.
#include <cstring>
#include <vector>

#include "bigrain/index.h"
#include "check.h"
#include "format/parts.h"
#include "graph_fixture.h"

namespace bigrain {
namespace {

constexpr size_t kCount = 600, kDim = 20;

struct Fixture {
  std::vector<float> vectors = check::random_vectors(kCount, kDim, 51);
  Monitor monitor;
  Index built = Index::build(view(), nullptr, {}, monitor);
  std::vector<uint32_t> rows = {built.parts().graph.as<uint32_t>().begin(),
                                built.parts().graph.as<uint32_t>().end()};
  BuildParams params;

  Fixture() { params.graph = {rows.data(), built.parts().meta.degree, {}}; }
  MatrixView view() const { return {vectors.data(), kCount, kDim, Dtype::f32}; }
  Index index() { return Index::build(view(), nullptr, params, monitor); }
  uint32_t* row(size_t vertex) { return &rows[vertex * params.graph.degree]; }
};

TEST(the_graph_of_an_index_gives_that_index_again) {
  Fixture fixture;
  const Index index = fixture.index();
  const IndexParts &found = index.parts(), &expected = fixture.built.parts();
  CHECK_EQ(found.meta.entry, expected.meta.entry);
  CHECK_EQ(found.meta.degree, expected.meta.degree);
  CHECK(index.to_bytes() == fixture.built.to_bytes());
  CHECK(std::memcmp(found.graph.data(), expected.graph.data(), expected.graph.size()) == 0);
  CHECK(std::memcmp(found.codes.data(), expected.codes.data(), expected.codes.size()) == 0);
  CHECK(index.validate(fixture.monitor).problems.empty());
}

TEST(the_entry_may_be_given) {
  Fixture fixture;
  fixture.params.graph.entry = 17;
  CHECK_EQ(fixture.index().parts().meta.entry, 17u);
  fixture.params.graph.entry = kCount - 1;
  CHECK_EQ(fixture.index().parts().meta.entry, kCount - 1);
  fixture.params.graph.entry = kCount;
  CHECK_THROWS(fixture.index(), ErrorKind::invalid_argument);
}

TEST(rows_that_cannot_be_walked_are_refused) {
  const auto refused = [](auto damage) {
    Fixture fixture;
    damage(fixture);
    CHECK_THROWS(fixture.index(), ErrorKind::invalid_argument);
  };
  refused([](Fixture& fixture) { fixture.row(kCount - 1)[0] = kCount; });
  refused([](Fixture& fixture) { fixture.row(5)[1] = 0xFFFFFFFF; });
  refused([](Fixture& fixture) { fixture.row(5)[1] = fixture.row(5)[0]; });
  refused([](Fixture& fixture) { fixture.row(5)[0] = 5; });
  refused([](Fixture& fixture) { fixture.params.graph.degree = 1; });
  refused([](Fixture& fixture) { fixture.params.graph.degree = kMaxDegree + 1; });
}

TEST(a_row_may_be_empty_and_a_set_too) {
  Fixture fixture;
  std::fill_n(fixture.row(5), fixture.params.graph.degree, 5u);
  CHECK_EQ(fixture.index().validate(fixture.monitor).empty_rows, 1u);
  const MatrixView nothing{fixture.vectors.data(), 0, kDim, Dtype::f32};
  const Index index = Index::build(nothing, nullptr, fixture.params, fixture.monitor);
  CHECK_EQ(index.parts().meta.count, 0u);
}

}  // namespace
}  // namespace bigrain
