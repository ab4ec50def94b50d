// SPDX-License-Identifier: Apache-2.0
// What is done to an index for the sake of an SSD: new numbers change no answer, and spare reads.
#include "index/prepare_disk.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <set>
#include <vector>

#include "check.h"
#include "disk_fixture.h"
#include "graph/page_order.h"

namespace bigrain {
namespace {

using namespace check;

constexpr size_t kCount = 3'000, kQueries = 40;
constexpr uint32_t kDim = 24, kK = 10;

std::unique_ptr<IndexParts> copy_of(const IndexParts& parts) {
  Monitor monitor;
  return format::parse(format::serialize(parts), Verify::full, monitor);
}

Index index_of(const IndexParts& parts) {
  Monitor monitor;
  return Index::from_bytes(format::serialize(parts), Verify::full, monitor);
}

std::vector<int64_t> ids_found(const Index& index, const Buffer& queries) {
  std::vector<int64_t> ids(kQueries * kK);
  std::vector<float> distances(ids.size());
  Monitor monitor;
  index.search({queries.data(), kQueries, kDim, Dtype::f32}, {.k = kK, .width = 200, .threads = 1},
               {ids.data(), distances.data(), nullptr}, monitor);
  return ids;
}

TEST(new_numbers_change_no_answer) {
  for (const bool ids : {false, true}) {
    const DiskIndexFile file({.ids = ids});
    const auto parts = copy_of(file.parts());
    Monitor monitor;
    order_for_pages(*parts, monitor);
    quant::encode_pq(*parts, 1, monitor);
    CHECK_EQ(parts->ids.size(), kCount * sizeof(int64_t));
    CHECK(std::memcmp(parts->graph.data(), file.parts().graph.data(), parts->graph.size()) != 0);
    const Index before = index_of(file.parts()), after = index_of(*parts);
    const ValidationReport report = after.validate(monitor);
    CHECK(report.problems.empty());
    CHECK_EQ(report.unreachable, 0u);
    const Buffer queries = file.queries(kQueries);
    CHECK(ids_found(before, queries) == ids_found(after, queries));
  }
}

TEST(codes_move_with_their_points) {
  const DiskIndexFile file({.ids = true});
  const auto parts = copy_of(file.parts());
  quant::encode_pq(*parts, 1, *std::make_unique<Monitor>());
  std::vector<uint32_t> order(kCount);
  std::iota(order.rbegin(), order.rend(), 0u);
  const Buffer before = Buffer(parts->pq_codes.size());
  std::memcpy(const_cast<std::byte*>(before.data()), parts->pq_codes.data(), before.size());
  renumber(*parts, order);
  const size_t bytes = parts->meta.pq_bytes;
  for (size_t i = 0; i < kCount; ++i)
    CHECK(std::memcmp(parts->pq_codes.data() + i * bytes, before.data() + (kCount - 1 - i) * bytes,
                      bytes) == 0);
}

// Pages of four: most hold three neighbours of their first point, or of each other.
TEST(pages_hold_neighbours) {
  const DiskIndexFile file({});
  const IndexParts& parts = file.parts();
  const graph::CodeDistances distances{{parts.codes.data(), code_stride(kDim)},
                                       simd::active_kernels().score_codes};
  const search::GraphView graph{parts.graph.as<uint32_t>().data(), parts.meta.degree, kCount};
  Monitor monitor;
  for (const size_t per_page : {1, 4, 7, 5'000}) {
    std::vector<uint32_t> order =
        graph::page_order(distances, graph, parts.meta.entry, per_page, monitor);
    if (per_page == 4) {
      size_t linked = 0;
      for (size_t i = 0; i + 3 < kCount; i += 4) {
        for (size_t j = 1; j < 4; ++j) {
          linked += std::any_of(&order[i], &order[i + j], [&](uint32_t id) {
            const uint32_t* const row = graph.row(id);
            return std::find(row, row + graph.stride, order[i + j]) != row + graph.stride;
          });
        }
      }
      CHECK(linked > kCount / 4 * 3 * 9 / 10);
    }
    std::sort(order.begin(), order.end());
    std::vector<uint32_t> all(kCount);
    std::iota(all.begin(), all.end(), 0u);
    CHECK(order == all);
  }
}

TEST(a_damaged_row) {
  const DiskIndexFile file({});
  const auto parts = copy_of(file.parts());
  parts->graph.as<uint32_t>()[17] = kCount;
  Monitor monitor;
  CHECK_THROWS(order_for_pages(*parts, monitor), ErrorKind::corrupt);
}

TEST(the_same_bytes_for_every_number_of_threads) {
  const DiskIndexFile file({});
  const auto one = copy_of(file.parts()), three = copy_of(file.parts());
  Monitor monitor;
  prepare_disk(*one, 12, 1, monitor);
  prepare_disk(*three, 12, 3, monitor);
  quant::encode_pq(*one, 1, monitor);
  quant::encode_pq(*three, 3, monitor);
  CHECK(format::serialize(*one) == format::serialize(*three));
  const std::span<const uint32_t> hot = one->hot.as<uint32_t>();
  CHECK_EQ(hot.size(), kCount / 8);
  CHECK_EQ(std::set<uint32_t>(hot.begin(), hot.end()).size(), hot.size());
  CHECK(*std::max_element(hot.begin(), hot.end()) < kCount);
}

TEST(fewer_reads) {
  const DiskIndexFile file({.dim = 200});  // four records per page
  const Buffer queries = file.queries(kQueries);
  const MatrixView view{queries.data(), kQueries, 200, Dtype::f32};
  const auto reads = [&](uint64_t hot_rows) {
    uint64_t sum = 0;
    OnDisk index(file.path(), "auto", hot_rows);
    const DiskAnswers answers = index.search(view, {.k = kK, .window = 40, .threads = 1});
    for (const QueryStats& cost : answers.costs) sum += cost.reads;
    return sum;
  };
  const uint64_t before = reads(0);
  Monitor monitor;
  prepare_disk(file.parts(), 0, 1, monitor);
  quant::encode_pq(file.parts(), 1, monitor);
  file.save();
  const uint64_t ordered = reads(0), cached = reads(200);
  CHECK(ordered < before * 3 / 4);
  CHECK(cached < ordered);
}

TEST(an_index_of_nothing) {
  const DiskIndexFile file({.count = 1, .hot = 0});
  Monitor monitor;
  prepare_disk(file.parts(), 0, 1, monitor);
  CHECK_EQ(file.parts().meta.pq_bytes, 0u);
  IndexParts none;
  prepare_disk(none, 0, 1, monitor);
  CHECK_EQ(none.hot.size(), 0u);
}

}  // namespace
}  // namespace bigrain
