// SPDX-License-Identifier: Apache-2.0
#include "check.h"
#include "format_fixture.h"
#include "io/file_system.h"

namespace bigrain {
namespace {

using namespace fixture;

TEST(every_kind_of_index_survives_a_file) {
  const TemporaryDirectory directory;
  const std::string path = directory / "index.bg";
  for (const Shape& shape : corpus(2'000)) {
    Monitor monitor;
    const IndexParts parts = random_parts(shape);
    const Bytes bytes = format::serialize(parts);
    CHECK_EQ(format::save(parts, io::posix(), path, monitor), bytes.size());
    CHECK(read_file(path) == bytes);
    for (const Verify verify : {Verify::full, Verify::header, Verify::off}) {
      const auto opened = format::open(io::posix(), path, verify, monitor);
      CHECK(same_arrays(parts, *opened));
      CHECK(same_meta(parts.meta, opened->meta));
      CHECK(same_arrays(parts, *format::parse(bytes, verify, monitor)));
    }
  }
}

TEST(serializing_what_was_parsed_gives_the_same_bytes) {
  for (const Shape& shape : corpus(100)) {
    Monitor monitor;
    const Bytes bytes = format::serialize(random_parts(shape));
    const IndexParts parts = random_parts(shape);
    const format::PqEncoder encode = [&](uint64_t first, std::span<std::byte> codes) {
      std::memcpy(codes.data(), parts.pq_codes.data() + first * shape.pq_bytes, codes.size());
    };
    CHECK(format::serialize(*format::parse(bytes, Verify::full, monitor), encode) == bytes);
  }
}

// What a search with vectors on disk holds in memory.
TEST(a_part_of_the_arrays) {
  const TemporaryDirectory directory;
  const std::string path = directory / "index.bg";
  const format::Keep keep{.graph = false,
                          .vectors = false,
                          .ids = false,
                          .codes = false,
                          .pq_codes = true,
                          .sums = true};
  for (const Shape& shape : corpus(300)) {
    Monitor monitor;
    const IndexParts parts = random_parts(shape);
    format::save(parts, io::posix(), path, monitor);
    const format::NodeShape nodes = format::node_shape(parts.meta, parts.ids.size() > 0);
    for (const Verify verify : {Verify::full, Verify::header, Verify::off}) {
      const auto opened = format::open(io::posix(), path, verify, monitor, keep);
      CHECK_EQ(opened->graph.size() + opened->vectors.size() + opened->ids.size(), 0u);
      CHECK_EQ(opened->codes.size(), 0u);
      CHECK(same_bytes(opened->pq_codes, parts.pq_codes));
      CHECK(same_bytes(opened->mean, parts.mean));
      CHECK_EQ(opened->sums.size(), nodes.pages() * sizeof(uint32_t));
    }
  }
}

TEST(no_vector_takes_more_pages_than_it_must) {
  for (const uint32_t dim : {1u, 100u, 784u, 960u, 992u, 993u, 1'024u, 1'025u, 1'536u, 3'072u}) {
    const IndexMeta meta{.dim = dim, .count = 1'000, .degree = 32};
    const format::NodeShape shape = format::node_shape(meta, false);
    const format::RecordShape& holder = shape.coupled ? shape.nodes : shape.fulls;
    CHECK_EQ(holder.pages_each, (dim * 4 + 4'095) / 4'096);
    CHECK_EQ(shape.coupled, dim != 993 && dim != 1'024 && dim != 3'072);
  }
}

TEST(the_file_is_covered_by_aligned_ascending_sections) {
  for (const Shape& shape : corpus(77)) {
    const Bytes bytes = format::serialize(random_parts(shape));
    const format::RawHeader raw = header_of(bytes);
    uint64_t next = format::kHeaderBytes;
    for (uint32_t i = 0; i < raw.section_count; ++i) {
      CHECK_EQ(raw.sections[i].offset, next);
      CHECK_EQ(raw.sections[i].length, raw.sections[i].count * raw.sections[i].element_size);
      next += format::round_up(raw.sections[i].length, format::kAlignment);
    }
    CHECK_EQ(next, bytes.size());
    CHECK_EQ(raw.file_length, bytes.size());
  }
}

TEST(absent_sections_take_no_space) {
  const Shape shape{.count = 0, .ids = false, .tune_points = 0};
  const Bytes bytes = format::serialize(random_parts(shape));
  CHECK_EQ(header_of(bytes).section_count, 2u);  // mean and signs
  CHECK_EQ(bytes.size(), 3 * format::kAlignment);
}

// No product overflows at the limits, and the file keeps its form.
TEST(the_layout_of_the_largest_index) {
  const IndexMeta meta{.metric = Metric::ip,
                       .dtype = Dtype::f32,
                       .dim = kMaxDim,
                       .code_dim = kMaxDim,
                       .count = kMaxPoints,
                       .degree = kMaxDegree,
                       .entry = static_cast<uint32_t>(kMaxPoints - 1),
                       .build_width = kMaxBuildWidth,
                       .alpha = kMaxAlpha};
  format::check_ranges(meta);
  const format::Layout layout = format::compute_layout(
      meta, {.ids = true, .tune_points = format::kMaxTunePoints, .trials = 0});
  unsigned __int128 end = format::kHeaderBytes;
  for (const format::Section& section : layout.sections) {
    CHECK(end == section.offset);
    end += static_cast<unsigned __int128>(section.count) * section.element_size;
    end = (end + format::kAlignment - 1) / format::kAlignment * format::kAlignment;
  }
  CHECK_EQ(layout.sections.size(), 7u);  // nodes, fulls, sums, codes, mean, signs, tuning
  CHECK(end == layout.file_length);
  CHECK(layout.file_length > uint64_t{600} << 40);
}

TEST(progress_reaches_its_total) {
  uint64_t last = 0, whole = 1;
  const auto poll = [&](uint64_t done, uint64_t total) {
    last = done;
    whole = total;
    return true;
  };
  const TemporaryDirectory directory;
  Monitor saving(poll);
  format::save(random_parts({.count = 100}), io::posix(), directory / "x", saving);
  CHECK_EQ(last, whole);
  last = 0;
  Monitor opening(poll);
  format::open(io::posix(), directory / "x", Verify::full, opening);
  CHECK_EQ(last, whole);
}

TEST(parts_that_do_not_fit_together_are_not_written) {
  const Shape shape{.count = 10};
  IndexParts parts = random_parts(shape);
  parts.codes = Buffer(64);
  CHECK_THROWS(format::serialize(parts), ErrorKind::invalid_argument);
  parts = random_parts(shape);
  parts.tuning.resize(format::kMaxTunePoints + 1);
  CHECK_THROWS(format::serialize(parts), ErrorKind::invalid_argument);
}

TEST(describe_tells_the_header) {
  const TemporaryDirectory directory;
  const std::string path = directory / "index.bg";
  Monitor monitor;
  const Shape shape{.metric = Metric::cosine, .dtype = Dtype::f16, .dim = 100, .count = 50};
  format::save(random_parts(shape), io::posix(), path, monitor);
  const std::string text = format::describe(io::posix(), path);
  for (const char* part :
       {"\"format\": \"1.2\"", "\"points\": 50", "\"dim\": 100", "\"dtype\": \"float16\"",
        "\"metric\": \"cosine\"", "\"alpha\": 1.2,", "\"seed\": 42", "\"name\": \"nodes\"",
        "\"name\": \"tuning\"", "\"offset\": 4096"}) {
    CHECK(contains(text, part));
  }
}

// A poll that says stop ends opening and saving, and no file appears.
TEST(opening_and_saving_can_be_stopped) {
  const TemporaryDirectory directory;
  Monitor never_polls;
  const IndexParts parts = random_parts({.dim = 128, .count = 2'000});
  const std::string path = directory / "index.bg";
  format::save(parts, io::posix(), path, never_polls);
  Monitor stops([](uint64_t, uint64_t) { return false; });
  CHECK_THROWS(format::open(io::posix(), path, Verify::full, stops), ErrorKind::cancelled);
  Monitor stops_too([](uint64_t, uint64_t) { return false; });
  CHECK_THROWS(format::save(parts, io::posix(), directory / "other", stops_too),
               ErrorKind::cancelled);
  const auto entries = std::filesystem::directory_iterator(directory.path());
  CHECK_EQ(std::distance(begin(entries), end(entries)), 1);
}

}  // namespace
}  // namespace bigrain
