// SPDX-License-Identifier: Apache-2.0
// Builds that hold neither vectors nor graph: the same answers, the same bytes, any interruption.
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "bigrain/build_to.h"
#include "bigrain/exact.h"
#include "bigrain/index.h"
#include "check.h"
#include "faulty_file_system.h"
#include "graph_fixture.h"
#include "io/file_system.h"
#include "util/monitor.h"

namespace bigrain {
namespace {

constexpr uint64_t kMebi = uint64_t{1} << 20;

// A folder with vectors in a file, removed in the end.
struct Place {
  explicit Place(const std::vector<float>& vectors, size_t dim)
      : folder(std::filesystem::temp_directory_path() /
               ("bigrain-disk-build-" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(folder);
    std::filesystem::create_directory(folder);
    std::ofstream(folder / "vectors", std::ios::binary)
        .write(reinterpret_cast<const char*>(vectors.data()),
               static_cast<std::streamsize>(vectors.size() * sizeof(float)));
    source = {.path = (folder / "vectors").string(),
              .offset = 0,
              .row_stride = dim * sizeof(float),
              .rows = vectors.size() / dim,
              .dim = static_cast<uint32_t>(dim),
              .dtype = Dtype::f32};
  }
  ~Place() { std::filesystem::remove_all(folder); }

  std::string index() const { return (folder / "x.bigrain").string(); }
  DiskBuildParams disk(uint64_t memory) const {
    return {.memory = memory, .work = (folder / "work").string(), .clean = false};
  }
  std::vector<char> bytes() const {
    std::ifstream file(index(), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::set<std::string> names() const {
    std::set<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      found.insert(entry.path().filename().string());
    }
    return found;
  }

  std::filesystem::path folder;
  VectorFile source;
};

BuildParams small_params(Metric metric = Metric::l2, uint32_t threads = 1) {
  BuildParams params;
  params.metric = metric;
  params.degree = 16;
  params.threads = threads;
  return params;
}

void build(const Place& place, uint64_t memory, const BuildParams& params) {
  Monitor monitor;
  build_to(io::posix(), place.index(), place.source, {}, params, place.disk(memory), monitor);
}

double recall(const Index& index, const std::vector<float>& queries, size_t dim,
              const MatrixView& base, Metric metric, uint32_t width) {
  const MatrixView asked{queries.data(), queries.size() / dim, dim, Dtype::f32};
  std::vector<int64_t> found(asked.rows * 10), truth(asked.rows * 10);
  std::vector<float> distances(asked.rows * 10);
  Monitor monitor;
  exact_search(base, asked, metric, 10, 2, truth.data(), distances.data(), monitor);
  index.search(asked, {.k = 10, .width = width}, {found.data(), distances.data()}, monitor);
  size_t hits = 0;
  for (size_t q = 0; q < asked.rows; ++q) {
    const auto begin = truth.begin() + static_cast<ptrdiff_t>(q * 10);
    for (size_t i = 0; i < 10; ++i) hits += std::count(begin, begin + 10, found[q * 10 + i]);
  }
  return static_cast<double>(hits) / static_cast<double>(found.size());
}

TEST(one_shard_gives_the_file_of_the_build_in_memory) {
  const size_t dim = 24;
  for (const size_t count : {1u, 3u, 1'000u, 6'000u}) {
    const std::vector<float> vectors = check::random_vectors(count, dim, 5);
    const Place place(vectors, dim);
    build(place, 64 * kMebi, small_params());
    Monitor monitor;
    const Index index =
        Index::build({vectors.data(), count, dim, Dtype::f32}, nullptr, small_params(), monitor);
    const std::vector<std::byte> expected = index.to_bytes();
    const std::vector<char> found = place.bytes();
    CHECK(found.size() == expected.size());
    CHECK(std::memcmp(found.data(), expected.data(), found.size()) == 0);
    CHECK(place.names() == (std::set<std::string>{"vectors", "x.bigrain"}));
  }
}

TEST(shards_find_what_the_build_in_memory_finds) {
  const size_t dim = 32, count = 12'000;
  const std::vector<float> vectors = check::random_vectors(count, dim, 6);
  const std::vector<float> queries = check::random_vectors(200, dim, 6);
  const MatrixView base{vectors.data(), count, dim, Dtype::f32};
  for (const Metric metric : {Metric::l2, Metric::cosine, Metric::ip}) {
    const Place place(vectors, dim);
    build(place, 2 * kMebi, small_params(metric));
    Monitor monitor;
    const Index merged = Index::open(place.index(), OpenParams{}, monitor);
    const Index whole = Index::build(base, nullptr, small_params(metric), monitor);
    const ValidationReport report = merged.validate(monitor);
    CHECK(report.problems.empty());
    CHECK(report.unreachable == 0);
    for (const uint32_t width : {10u, 20u, 40u}) {
      const double a = recall(merged, queries, dim, base, metric, width);
      const double b = recall(whole, queries, dim, base, metric, width);
      // Shards are cut by Euclidean distance, which tells less about large inner products.
      CHECK(a > b - (metric == Metric::ip ? 0.08 : 0.01));
    }
  }
}

// Few shards, many points: enough of everything for the tests of files.
struct Small {
  static constexpr size_t kDim = 16, kCount = 6'000;
  static constexpr uint64_t kMemory = kMebi + kMebi / 4;

  Small() : vectors(check::random_vectors(kCount, kDim, 7)) {
    // Copies, so that there are followers.
    for (size_t i = 0; i < 300; ++i) {
      std::copy_n(&vectors[i * kDim], kDim, &vectors[(3'000 + i) * kDim]);
    }
  }
  std::vector<float> vectors;
};

TEST(threads_do_not_change_the_file) {
  const Small small;
  std::vector<char> first;
  for (const uint32_t threads : {1u, 2u, 7u}) {
    const Place place(small.vectors, Small::kDim);
    build(place, Small::kMemory, small_params(Metric::l2, threads));
    const std::vector<char> found = place.bytes();
    if (first.empty()) first = found;
    CHECK(!found.empty() && found == first);
  }
}

TEST(copies_of_one_point_need_no_more_memory_than_was_allowed) {
  const size_t dim = 8, count = 20'000;
  const Place place(std::vector<float>(count * dim, 0.5f), dim);
  build(place, 2 * kMebi, small_params());
  Monitor monitor;
  const Index index = Index::open(place.index(), OpenParams{}, monitor);
  const ValidationReport report = index.validate(monitor);
  CHECK(report.problems.empty());
  CHECK(report.unreachable == 0);
}

TEST(ids_and_pq_codes_are_in_the_file) {
  const Small small;
  const Place place(small.vectors, Small::kDim);
  std::vector<int64_t> ids(Small::kCount);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(10 * i + 5);
  BuildParams params = small_params();
  params.pq_bytes = 8;
  Monitor monitor;
  build_to(io::posix(), place.index(), place.source, ids, params, place.disk(2 * kMebi), monitor);
  const Index index = Index::open(place.index(), OpenParams{}, monitor);
  CHECK(index.parts().meta.pq_bytes == 8);
  CHECK(index.parts().hot.size() > 0);
  const MatrixView asked{small.vectors.data(), 50, Small::kDim, Dtype::f32};
  std::vector<int64_t> found(50);
  std::vector<float> distances(50);
  index.search(asked, {.k = 1, .width = 64}, {found.data(), distances.data()}, monitor);
  for (size_t q = 0; q < 50; ++q) {
    CHECK(distances[q] == 0);
    CHECK(found[q] == ids[q] || found[q] == ids[q + 3'000]);
  }
}

// A call to the system that fails, or a process that ends: nothing at `path`, and the same call
// goes on to the same file.
TEST(a_build_goes_on_wherever_it_was_stopped) {
  const Small small;
  std::vector<char> expected;
  uint64_t calls = 0;
  {
    const Place place(small.vectors, Small::kDim);
    fixture::FaultyFileSystem files;
    Monitor monitor;
    build_to(files, place.index(), place.source, {}, small_params(), place.disk(Small::kMemory),
             monitor);
    expected = place.bytes();
    calls = files.calls.size();
  }
  Rng rng(9);
  for (int trial = 0; trial < 24; ++trial) {
    const Place place(small.vectors, Small::kDim);
    fixture::FaultyFileSystem files;
    const uint64_t at = rng.bounded(calls);
    if (trial % 3 == 0) files.kill_before = at;
    if (trial % 3 == 1) files.fail_at = at;
    if (trial % 3 == 2) files.disk_full_after = rng.bounded(uint64_t{1} << 21);
    Monitor monitor;
    try {
      build_to(files, place.index(), place.source, {}, small_params(), place.disk(Small::kMemory),
               monitor);
      CHECK(place.bytes() == expected);  // a call whose failure does not matter
      continue;
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::io || error.kind() == ErrorKind::corrupt);
      CHECK(trial % 3 != 2 || error.error_number() == ENOSPC);
    }
    CHECK(!std::filesystem::exists(place.index()) || place.bytes() == expected);
    files.kill_before = files.fail_at = files.disk_full_after = fixture::FaultyFileSystem::kNever;
    build(place, Small::kMemory, small_params());
    CHECK(place.bytes() == expected);
    CHECK(place.names() == (std::set<std::string>{"vectors", "x.bigrain"}));
  }
}

TEST(a_build_of_other_parameters_is_refused) {
  const Small small;
  const Place place(small.vectors, Small::kDim);
  uint64_t polls = 0;
  Monitor cancelled([&](uint64_t, uint64_t) { return ++polls < 4; });
  CHECK_THROWS(build_to(io::posix(), place.index(), place.source, {}, small_params(),
                        place.disk(Small::kMemory), cancelled),
               ErrorKind::cancelled);
  BuildParams other = small_params();
  other.seed = 1;
  CHECK_THROWS(build(place, Small::kMemory, other), ErrorKind::invalid_argument);
  CHECK_THROWS(build(place, 2 * kMebi, small_params()), ErrorKind::invalid_argument);
  DiskBuildParams anew = place.disk(Small::kMemory);
  anew.clean = true;
  Monitor monitor;
  build_to(io::posix(), place.index(), place.source, {}, other, anew, monitor);
  CHECK(place.names() == (std::set<std::string>{"vectors", "x.bigrain"}));
}

TEST(too_little_memory_or_too_short_a_file_is_refused) {
  const Small small;
  const Place place(small.vectors, Small::kDim);
  CHECK_THROWS(build(place, 1'000, small_params()), ErrorKind::invalid_argument);
  Place cut(small.vectors, Small::kDim);
  ++cut.source.rows;
  CHECK_THROWS(build(cut, kMebi, small_params()), ErrorKind::invalid_argument);
}

}  // namespace
}  // namespace bigrain
