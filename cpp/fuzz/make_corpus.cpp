// SPDX-License-Identifier: Apache-2.0
// Writes the first inputs of fuzz_open: small indexes of every kind. `make_corpus FOLDER`.
#include <cstdio>
#include <string>

#include "bigrain/index.h"
#include "format_fixture.h"
#include "util/monitor.h"

using namespace bigrain;

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: make_corpus FOLDER\n");
    return 2;
  }
  const fixture::Shape shapes[] = {
      {.metric = Metric::l2,
       .dtype = Dtype::f32,
       .dim = 8,
       .count = 300,
       .degree = 8,
       .pq_bytes = 4},
      {.metric = Metric::ip, .dtype = Dtype::i8, .dim = 5, .count = 60, .degree = 4, .ids = false},
      {.metric = Metric::cosine,
       .dtype = Dtype::f16,
       .dim = 16,
       .count = 270,
       .degree = 6,
       .ids = false,
       .pq_bytes = 8},
      {.metric = Metric::l2, .dtype = Dtype::u8, .dim = 12, .count = 1, .degree = 4},
      {.metric = Metric::l2, .dtype = Dtype::f32, .dim = 1'024, .count = 12, .degree = 4},
  };
  int number = 0;
  for (const fixture::Shape& shape : shapes) {
    const IndexParts parts = fixture::random_parts(shape, 7);
    const MatrixView vectors{parts.vectors.data(), shape.count, shape.dim, shape.dtype};
    BuildParams params;
    params.metric = shape.metric;
    params.degree = shape.degree;
    params.build_width = 16;
    params.pq_bytes = shape.pq_bytes;
    params.code_dim = shape.dim > 100 ? 40 : 0;
    Monitor monitor;
    const int64_t* ids = shape.ids ? parts.ids.as<int64_t>().data() : nullptr;
    Index index = Index::build(vectors, ids, params, monitor);
    TunePoint point{.k = 5, .width = 10, .recall = 0.9f, .rerank = 12};
    if (number % 2 == 1 && shape.metric != Metric::ip) point.slack = 0.1f;
    index.set_tuning({point});
    index.save(std::string(arguments[1]) + "/index-" + std::to_string(number++), monitor);
  }
  return 0;
}
