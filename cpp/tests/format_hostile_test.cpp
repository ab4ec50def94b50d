// SPDX-License-Identifier: Apache-2.0
// Files made to deceive: every checksum is right, the content is not.
#include <cmath>
#include <cstddef>
#include <cstring>
#include <fstream>

#include "check.h"
#include "format_fixture.h"

namespace bigrain {
namespace {

using namespace fixture;
using format::SectionKind;

struct Field {
  const char* name;
  size_t offset, size;
};

#define FIELD(member) \
  Field { #member, offsetof(format::RawHeader, member), sizeof(format::RawHeader::member) }

std::vector<Field> numeric_fields(uint32_t sections) {
  std::vector<Field> fields = {FIELD(major),       FIELD(minor),         FIELD(endian_marker),
                               FIELD(flags),       FIELD(count),         FIELD(file_length),
                               FIELD(dim),         FIELD(degree),        FIELD(dtype),
                               FIELD(metric),      FIELD(seed),          FIELD(rotation_rounds),
                               FIELD(entry),       FIELD(section_count), FIELD(alpha),
                               FIELD(build_width), FIELD(code_stride)};
  for (uint32_t i = 0; i <= sections && i < format::kMaxSections; ++i) {
    const size_t base = offsetof(format::RawHeader, sections) + i * sizeof(format::RawSection);
    for (const auto& [name, offset, size] :
         {Field{"kind", 0, 4}, Field{"element_size", 4, 4}, Field{"offset", 8, 8},
          Field{"length", 16, 8}, Field{"count", 24, 8}, Field{"reserved", 36, 4}}) {
      fields.push_back({name, base + offset, size});
    }
  }
  return fields;
}

uint64_t get(const Bytes& bytes, const Field& field) {
  uint64_t value = 0;
  std::memcpy(&value, bytes.data() + field.offset, field.size);
  return value;
}

void set(Bytes& bytes, const Field& field, uint64_t value) {
  std::memcpy(bytes.data() + field.offset, &value, field.size);
  put_header(bytes, header_of(bytes));
}

std::vector<uint64_t> extremes(const Bytes& bytes, const Field& field) {
  const uint64_t old = get(bytes, field);
  const uint64_t max = field.size == 8 ? UINT64_MAX : (uint64_t{1} << (8 * field.size)) - 1;
  std::vector<uint64_t> values = {0,       1,       max,     max - 1, old + 1,
                                  old - 1, old * 2, old ^ 1, 65'536,  65'537};
  for (const int bit : {15, 30, 31, 32, 33, 62, 63}) {
    values.push_back(uint64_t{1} << bit);
    values.push_back((uint64_t{1} << bit) - 1);
  }
  return values;
}

uint64_t peak_address_space() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    uint64_t kib = 0;
    if (word == "VmPeak:" && status >> kib) return kib * 1'024;
  }
  return 0;
}

// Either an error, or the same arrays with another harmless number in the header (entry, alpha,
// build width, seed); and no more memory than the file warrants.
TEST(header_fields_at_their_extremes) {
  for (const Shape& shape : corpus(400)) {
    const IndexParts parts = random_parts(shape);
    Bytes bytes = format::serialize(parts);
    const Bytes intact = bytes;
    const uint64_t before = peak_address_space();
    for (const Field& field : numeric_fields(header_of(bytes).section_count)) {
      for (const uint64_t value : extremes(intact, field)) {
        for (const Verify verify : {Verify::full, Verify::header, Verify::off}) {
          set(bytes, field, value);
          if (complaint(bytes, verify).empty()) {
            Monitor monitor;
            const auto read = format::parse(bytes, verify, monitor);
            // From 1.4 on nothing but its flag says that codes were given.
            const bool other_flag = read->meta.pq_given != parts.meta.pq_given;
            CHECK(same_arrays(parts, *read) || other_flag);
          }
        }
      }
      bytes = intact;
    }
    const uint64_t allowed = 2 * bytes.size() + (uint64_t{64} << 20);
    CHECK(BIGRAIN_UNDER_SANITIZER || peak_address_space() - before <= allowed);
  }
}

TEST(every_field_that_shapes_the_file_is_refused_when_it_changes) {
  const Bytes intact = format::serialize(random_parts({.dim = 100, .count = 200}));
  for (const Field& field : {FIELD(count), FIELD(dim), FIELD(degree), FIELD(code_stride),
                             FIELD(section_count), FIELD(file_length), FIELD(rotation_rounds),
                             FIELD(flags), FIELD(endian_marker), FIELD(dtype)}) {
    for (const uint64_t value : extremes(intact, field)) {
      Bytes bytes = intact;
      set(bytes, field, value);
      CHECK_EQ(complaint(bytes, Verify::off).empty(), bytes == intact);
    }
  }
}

TEST(other_versions_are_refused_by_name) {
  const Bytes intact = format::serialize(random_parts({.count = 5}));
  const auto with_version = [&](uint16_t major, uint16_t minor) {
    format::RawHeader raw = header_of(intact);
    raw.major = major;
    raw.minor = minor;
    Bytes bytes = intact;
    put_header(bytes, raw);
    return complaint(bytes);
  };
  CHECK(contains(with_version(1, 3), "version 1.3 without the flag"));
  CHECK(contains(with_version(1, 4), "section table, tuning, does not fit"));
  CHECK(contains(with_version(1, 5), "version 1.5, this Bigrain reads up to 1.4"));
  CHECK(contains(with_version(2, 0), "version 2.0, this Bigrain reads up to 1.4"));
  CHECK(contains(with_version(65'535, 65'535), "version 65535.65535"));
  CHECK(contains(with_version(0, 9), "no format version 0.9"));
}

// A change of one section, after which every checksum is made right.
template <class Change>
std::string complaint_after(SectionKind kind, const Shape& shape, Change change) {
  Bytes bytes = format::serialize(random_parts(shape));
  const format::RawSection section = section_of(bytes, kind);
  change(bytes.data() + section.offset);
  reseal(bytes);
  return complaint(bytes);
}

// A change of the arrays, written as if they had been so.
template <class Change>
std::string complaint_with(const Shape& shape, Change change) {
  IndexParts parts = random_parts(shape);
  change(parts);
  return complaint(format::serialize(parts));
}

template <class T>
void put(std::byte* to, size_t index, T value) {
  std::memcpy(to + index * sizeof value, &value, sizeof value);
}

constexpr Shape kShape{.dim = 13, .count = 50, .degree = 4};

std::string with_row(uint32_t vertex, const std::vector<uint32_t>& row) {
  return complaint_with(kShape, [&](IndexParts& parts) {
    for (size_t i = 0; i < row.size(); ++i) {
      parts.graph.as<uint32_t>()[vertex * kShape.degree + i] = row[i];
    }
  });
}

TEST(rows_of_the_graph) {
  CHECK_EQ(with_row(7, {1, 2, 3, 4}), "");
  CHECK_EQ(with_row(7, {1, 2, 7, 7}), "");
  CHECK_EQ(with_row(7, {7, 7, 7, 7}), "");
  CHECK_EQ(with_row(49, {0, 48, 49, 49}), "");
  CHECK(contains(with_row(7, {1, 50, 3, 4}), "section graph: row 7 names vertex 50 of 50"));
  CHECK(contains(with_row(7, {1, 2, 3, UINT32_MAX}), "names vertex 4294967295"));
  CHECK(contains(with_row(7, {1, 7, 3, 7}), "row 7 has neighbours after its padding"));
  CHECK(contains(with_row(7, {7, 1, 2, 3}), "neighbours after its padding"));
  CHECK(contains(with_row(7, {1, 2, 3, 1}), "row 7 names a neighbour twice"));
  CHECK(contains(with_row(0, {1, 1, 0, 0}), "row 0 names a neighbour twice"));
}

// Rows so wide that the quick test for repeated ids meets collisions.
TEST(repeated_neighbours_in_wide_rows) {
  constexpr uint32_t kDegree = 512, kCount = 4'000;
  IndexParts parts = random_parts({.dim = 1, .count = kCount, .degree = kDegree});
  const auto graph = parts.graph.as<uint32_t>();
  for (uint32_t vertex = 0; vertex < kCount; ++vertex) {
    for (uint32_t i = 0; i < kDegree; ++i) {
      graph[size_t{vertex} * kDegree + i] = (vertex + 1 + i * 7) % kCount;
    }
  }
  Bytes bytes = format::serialize(parts);
  CHECK_EQ(complaint(bytes), "");
  for (const uint32_t at : {0u, 1u, 300u, 510u}) {
    const uint32_t before = graph[1'000 * kDegree + at];
    graph[1'000 * kDegree + at] = graph[1'000 * kDegree + 511];
    CHECK(contains(complaint(format::serialize(parts)), "row 1000 names a neighbour twice"));
    graph[1'000 * kDegree + at] = before;
  }
}

TEST(code_records) {
  const size_t stride = code_stride(kShape.dim);
  const auto with = [&](size_t byte, int value) {
    return complaint_after(SectionKind::codes, kShape, [&](std::byte* codes) {
      codes[3 * stride + byte] = static_cast<std::byte>(value);
    });
  };
  CHECK_EQ(with(0, -127), "");
  CHECK(contains(with(0, -128), "section codes: record 3 has a code of -128"));
  CHECK(contains(with(12, -128), "record 3 has a code of -128"));
  CHECK(contains(with(13, 1), "record 3 has padding that is not zero"));
  CHECK(contains(with(stride - 9, 1), "record 3 has padding that is not zero"));
  for (const size_t slot : {2, 1}) {
    for (const float value : {INFINITY, -INFINITY, NAN}) {
      CHECK(contains(complaint_after(SectionKind::codes, kShape,
                                     [&](std::byte* codes) {
                                       put(codes, 4 * stride / sizeof(float) - slot, value);
                                     }),
                     "record 3 has a scale or bias that is not finite"));
    }
  }
}

TEST(vectors_and_mean_are_finite) {
  const auto with = [](float value) {
    return complaint_with(kShape,
                          [&](IndexParts& parts) { parts.vectors.as<float>()[12] = value; });
  };
  CHECK(contains(with(1e19f), "vectors: row 0"));
  CHECK_EQ(with(8.9e18f), "");
  for (const float value : {INFINITY, -INFINITY, NAN}) {
    const auto change = [&](std::byte* values) { put(values, 12, value); };
    CHECK(contains(complaint_after(SectionKind::mean, kShape, change),
                   "section mean: it is not finite"));
    CHECK(contains(with(value), "vectors: row 0"));
  }
  Shape half = kShape;
  half.dtype = Dtype::f16;
  for (const int bits : {0x7C00, 0xFC00, 0x7C01, 0xFFFF}) {
    const auto change = [&](IndexParts& parts) {
      parts.vectors.as<uint16_t>()[13] = static_cast<uint16_t>(bits);
    };
    CHECK(contains(complaint_with(half, change), "vectors: row 1"));
  }
}

TEST(external_ids) {
  const auto with = [](std::vector<std::pair<size_t, int64_t>> changes) {
    return complaint_with(kShape, [&](IndexParts& parts) {
      for (const auto& [index, id] : changes) parts.ids.as<int64_t>()[index] = id;
    });
  };
  CHECK_EQ(with({{0, INT64_MAX}, {1, 0}}), "");
  CHECK(contains(with({{9, -1}}), "section ids: point 9 has the negative id -1"));
  CHECK(contains(with({{9, INT64_MIN}}), "negative id"));
  CHECK(contains(with({{9, 123'456}, {40, 123'456}}), "id 123456 occurs more than once"));
  CHECK(contains(with({{9, INT64_MAX}, {10, INT64_MAX}}), "occurs more than once"));
}

TEST(signs_and_tuning) {
  // 13 dimensions leave three bits of each round's second byte.
  const auto set_spare_bit = [](std::byte* signs) { signs[3] |= std::byte{0x20}; };
  CHECK(contains(complaint_after(SectionKind::signs, kShape, set_spare_bit), "section signs"));
  const auto with = [](const TunePoint& point) {
    return complaint_after(SectionKind::tuning, kShape, [&](std::byte* curve) {
      std::memcpy(curve + format::kPlainTuneBytes, &point, format::kPlainTuneBytes);
    });
  };
  CHECK_EQ(with({.k = 1, .width = 20, .recall = 1.0f}), "");
  for (const TunePoint& point :
       {TunePoint{.k = 0, .width = 20, .recall = 0.5f}, TunePoint{.k = 1, .width = 0, .recall = 0},
        TunePoint{.k = 1, .width = (1u << 20) + 1, .recall = 0.5f},
        TunePoint{.k = 1, .width = 20, .recall = 1.5f},
        TunePoint{.k = 1, .width = 20, .recall = NAN},
        TunePoint{.k = 1, .width = 20, .recall = 0.5f, .rerank = kMaxWidth + 1}}) {
    CHECK(contains(with(point), "section tuning: point 1 is out of range"));
  }
  CHECK(contains(with({.k = 1, .width = 16, .recall = 0.5f}), "point 1 is out of order"));
  CHECK(contains(with({.k = 11, .width = 1, .recall = 0.5f}), "point 2 is out of order"));
  CHECK_EQ(with({.k = 1, .width = 16, .recall = 0.5f, .rerank = 1}), "");
}

TEST(slack_of_tuning) {
  Shape shape = kShape;
  shape.slack = true;
  const auto with = [&shape](const TunePoint& point) {
    return complaint_after(SectionKind::tuning, shape,
                           [&](std::byte* curve) { put(curve, 1, point); });
  };
  CHECK_EQ(with({.k = 1, .width = 20, .recall = 0.5f, .slack = 0.0f}), "");
  CHECK_EQ(with({.k = 1, .width = 20, .recall = 0.5f, .slack = INFINITY}), "");
  for (const float slack : {-0.5f, NAN, -INFINITY}) {
    CHECK(contains(with({.k = 1, .width = 20, .recall = 0.5f, .slack = slack}), "out of range"));
  }
  shape.metric = Metric::ip;
  CHECK(contains(complaint_after(SectionKind::tuning, shape, [](std::byte*) {}), "out of range"));
  shape.tune_points = 0;
  Bytes bytes = format::serialize(random_parts(shape));
  format::RawHeader raw = header_of(bytes);
  raw.minor = 4;
  put_header(bytes, raw);
  CHECK(contains(complaint(bytes), "version 1.4 without the recall curve"));
}

constexpr Shape kPaged{.dim = 13, .count = 50, .degree = 4, .pq_bytes = 4, .pq_dim = 8, .hot = 5};

TEST(pages_and_their_sums) {
  const Bytes intact = format::serialize(random_parts(kPaged));
  const format::RawSection nodes = section_of(intact, SectionKind::nodes);
  const format::NodeShape shape = format::node_shape(random_parts(kPaged).meta, true);
  Bytes bytes = intact;
  bytes[nodes.offset + format::kPageBytes - 1] = std::byte{1};
  reseal(bytes);
  CHECK(contains(complaint(bytes), "section nodes: bytes between the records are not zero"));
  CHECK(shape.nodes.per_page * shape.nodes.bytes < format::kPageBytes);
  const auto with_sum = [](std::byte* sums) { sums[0] ^= std::byte{1}; };
  bytes = intact;
  with_sum(bytes.data() + section_of(intact, SectionKind::sums).offset);
  format::RawHeader raw = header_of(bytes);
  for (uint32_t i = 0; i < raw.section_count; ++i) {
    raw.sections[i].crc = crc32c(bytes.data() + raw.sections[i].offset, raw.sections[i].length);
  }
  put_header(bytes, raw);
  CHECK(contains(complaint(bytes), "section sums: that of page 0 is wrong"));
}

TEST(product_quantizers_and_hot_points) {
  for (const float value : {NAN, INFINITY, 2.0f}) {
    const auto change = [&](std::byte* values) { put(values, 5, value); };
    CHECK(contains(complaint_after(SectionKind::pq_rotation, kPaged, change), "pq_rotation"));
  }
  for (const float value : {NAN, -INFINITY, 1e19f}) {
    const auto change = [&](std::byte* values) { put(values, 5, value); };
    CHECK(contains(complaint_after(SectionKind::pq_codebooks, kPaged, change), "pq_codebooks"));
  }
  const auto with_hot = [](uint32_t point) {
    return complaint_after(SectionKind::hot, kPaged, [&](std::byte* hot) { put(hot, 1, point); });
  };
  CHECK_EQ(with_hot(40), "");
  CHECK(contains(with_hot(50), "section hot: entry 1 names vertex 50 of 50"));
  CHECK(contains(with_hot(0), "section hot: vertex 0 occurs more than once"));
}

// The flag of codes that were given, and the version that has it: both, for codes that are there.
TEST(given_codes) {
  Shape shape = kPaged;
  shape.pq_given = true;
  const auto with = [](const Shape& what, uint16_t minor, uint32_t flags) {
    Bytes bytes = format::serialize(random_parts(what));
    format::RawHeader raw = header_of(bytes);
    raw.minor = minor;
    raw.flags = flags;
    put_header(bytes, raw);
    return complaint(bytes);
  };
  CHECK_EQ(with(shape, 3, 3), "");
  CHECK_EQ(with(kPaged, 2, 1), "");
  CHECK(contains(with(shape, 2, 3), "unknown flags"));
  CHECK(contains(with(kPaged, 3, 1), "version 1.3 without the flag"));
  CHECK(contains(with({.dim = 13, .count = 50, .degree = 4}, 3, 3), "unknown flags"));
  CHECK(contains(with({.dim = 13, .count = 0, .degree = 4}, 3, 2), "unknown flags"));
}

// What is used without further checks is checked whatever `verify` says.
TEST(small_sections_are_always_checked) {
  Bytes bytes = format::serialize(random_parts(kShape));
  put(bytes.data() + section_of(bytes, SectionKind::mean).offset, 0, NAN);
  reseal(bytes);
  for (const Verify verify : {Verify::full, Verify::header, Verify::off}) {
    CHECK(contains(complaint(bytes, verify), "section mean"));
  }
}

TEST(bytes_between_sections_are_zero) {
  const Bytes intact = format::serialize(random_parts(kShape));
  for (uint32_t kind = 1; kind <= format::kLastSectionKind; ++kind) {
    const format::RawSection section = section_of(intact, static_cast<SectionKind>(kind));
    if (section.length % format::kAlignment == 0) continue;  // absent, or pages
    const uint64_t first = section.offset + section.length;
    const uint64_t last = format::round_up(first, format::kAlignment) - 1;
    for (const uint64_t place : {first, (first + last) / 2, last}) {
      Bytes bytes = intact;
      bytes[place] = std::byte{1};
      CHECK(contains(complaint(bytes), "the bytes behind it are not zero"));
    }
  }
}

// Sections that overlap, leave a hole or come in another order, in tables with right checksums.
TEST(sections_lie_where_the_header_puts_them) {
  const Bytes intact = format::serialize(random_parts(kShape));
  const auto with = [&](auto change) {
    format::RawHeader raw = header_of(intact);
    change(raw);
    Bytes bytes = intact;
    put_header(bytes, raw);
    return complaint(bytes, Verify::off);
  };
  using format::RawHeader;
  CHECK(!with([](RawHeader& raw) { std::swap(raw.sections[0], raw.sections[1]); }).empty());
  CHECK(!with([](RawHeader& raw) { raw.sections[1].offset = raw.sections[0].offset; }).empty());
  CHECK(!with([](RawHeader& raw) { raw.sections[6] = raw.sections[5]; }).empty());
  CHECK(!with([](RawHeader& raw) { raw.sections[7].crc = 1; }).empty());
  CHECK(!with([](RawHeader& raw) { raw.sections[31].reserved = 1; }).empty());
  CHECK(!with([](RawHeader& raw) { raw.reserved_middle[0] = 1; }).empty());
  CHECK(!with([](RawHeader& raw) { raw.reserved_end[2'559] = 1; }).empty());
  CHECK(!with([](RawHeader& raw) { raw.alpha = NAN; }).empty());
}

}  // namespace
}  // namespace bigrain
