// SPDX-License-Identifier: Apache-2.0
// What searches on an SSD do when the device, or the file, is broken: the answer is right or there
// is none.
#include <filesystem>
#include <string>
#include <vector>

#include "check.h"
#include "disk_fixture.h"

namespace bigrain {
namespace {

using namespace check;

constexpr search::DiskSearchParams kParams{
    .k = 5, .window = 40, .threads = 1, .deterministic = true};

MatrixView rows_of(const Buffer& queries, const DiskShape& shape, size_t count) {
  return {queries.data(), count, shape.dim, shape.dtype};
}

// How many of 30 devices with this fault gave an answer; each is right.
size_t answered(const DiskIndexFile& file, const std::string& fault, ErrorKind expected) {
  const Buffer queries = file.queries(8);
  const MatrixView view = rows_of(queries, file.shape(), 8);
  const DiskAnswers right = OnDisk(file.path(), "auto").search(view, kParams);
  size_t answers = 0;
  for (int seed = 1; seed <= 30; ++seed) {
    OnDisk index(file.path(), "simulated:reorder=1," + fault + ",seed=" + std::to_string(seed));
    try {
      const DiskAnswers found = index.search(view, kParams);
      CHECK(found.ids == right.ids);
      CHECK(found.distances == right.distances);
      ++answers;
    } catch (const Error& error) {
      CHECK_EQ(static_cast<int>(error.kind()), static_cast<int>(expected));
      CHECK(std::string(error.what()).find(file.path()) != std::string::npos);
    }
  }
  return answers;
}

TEST(a_device_that_fails) {
  const DiskIndexFile file({});
  const size_t some = answered(file, "error_rate=0.002", ErrorKind::io);
  CHECK(some > 0 && some < 30);
  CHECK_EQ(answered(file, "error_rate=0.2", ErrorKind::io), 0u);
}

TEST(a_device_that_damages) {
  const DiskIndexFile file({});
  const size_t some = answered(file, "damage_rate=0.002", ErrorKind::corrupt);
  CHECK(some > 0 && some < 30);
  CHECK_EQ(answered(file, "damage_rate=0.2", ErrorKind::corrupt), 0u);
}

TEST(a_device_that_reads_in_parts) {
  CHECK_EQ(answered(DiskIndexFile({}), "short_rate=0.3", ErrorKind::io), 30u);
}

TEST(searches_go_on_after_a_failure) {
  const DiskIndexFile file({});
  const Buffer queries = file.queries(8);
  OnDisk index(file.path(), "simulated:reorder=1,error_rate=0.01");
  size_t right = 0;
  for (int i = 0; i < 200; ++i) {
    try {
      right += index.search(rows_of(queries, file.shape(), 1), kParams).ids[0] >= 0 ? 1 : 0;
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::io);
      CHECK(!error.path().empty());
    }
  }
  CHECK(right > 20);
}

// A device of 20 reads a second; whoever polls says no.
TEST(a_search_that_is_cancelled) {
  const DiskIndexFile file({});
  const Buffer queries = file.queries(64);
  OnDisk index(file.path(), "simulated:latency_us=1000,iops=20,clock=real");
  for (const uint32_t threads : {1u, 3u}) {
    Monitor monitor([](uint64_t, uint64_t) { return false; });
    search::DiskSearchParams params = kParams;
    params.threads = threads;
    CHECK_THROWS(index.search(rows_of(queries, file.shape(), 64), params, monitor),
                 ErrorKind::cancelled);
  }
}

TEST(a_file_that_was_cut) {
  const DiskIndexFile file({});
  const Buffer queries = file.queries(8);
  OnDisk index(file.path(), "pread");
  std::filesystem::resize_file(file.path(), index.nodes_at() + 2 * format::kPageBytes);
  CHECK_THROWS(index.search(rows_of(queries, file.shape(), 4), kParams), ErrorKind::corrupt);
}

// A row that names a point that is not there, with the right checksums.
TEST(a_row_out_of_range) {
  const DiskIndexFile file({});
  for (uint32_t& id : file.parts().graph.as<uint32_t>()) id = 3'000;
  file.save();
  const Buffer queries = file.queries(8);
  CHECK_THROWS(OnDisk(file.path(), "auto").search(rows_of(queries, file.shape(), 1), kParams),
               ErrorKind::corrupt);
}

TEST(a_hot_point_out_of_range) {
  const DiskIndexFile file({.hot = 10});
  file.parts().hot.as<uint32_t>()[4] = 3'000;
  file.save();
  CHECK_THROWS(OnDisk(file.path(), "auto", 1 << 20), ErrorKind::corrupt);
}

TEST(no_codes) {
  const DiskIndexFile file({.count = 255});
  CHECK_THROWS(OnDisk(file.path(), "auto"), ErrorKind::corrupt);
}

}  // namespace
}  // namespace bigrain
