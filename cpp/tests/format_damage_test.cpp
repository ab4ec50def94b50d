// SPDX-License-Identifier: Apache-2.0
// Accidents: whatever happens to the bytes of a file, opening it is an Error(corrupt). Checksums
// are not made right again here; format_hostile_test.cpp does that.
#include <algorithm>

#include "check.h"
#include "format_fixture.h"
#include "io/file_system.h"

namespace bigrain {
namespace {

using namespace fixture;

std::vector<Bytes> files(uint64_t count) {
  std::vector<Bytes> all;
  for (const Shape& shape : corpus(count)) all.push_back(format::serialize(random_parts(shape)));
  return all;
}

void flip(Bytes& bytes, uint64_t bit) { bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8)); }

TEST(each_bit_of_the_header_matters) {
  for (Bytes& bytes : files(20)) {
    uint64_t accepted = 0;
    for (uint64_t bit = 0; bit < 8 * format::kHeaderBytes; ++bit) {
      flip(bytes, bit);
      accepted += complaint(bytes, Verify::header).empty();
      flip(bytes, bit);
    }
    CHECK_EQ(accepted, 0u);
    CHECK_EQ(complaint(bytes), "");
  }
}

TEST(any_flipped_bit_is_found) {
  Random random(2);
  std::vector<Bytes> all = files(2'000);
  for (int i = 0; i < 5'000; ++i) {
    Bytes& bytes = all[i % all.size()];
    const uint64_t bit = below(random, 8 * bytes.size());
    flip(bytes, bit);
    CHECK(!complaint(bytes).empty());
    flip(bytes, bit);
  }
}

// 2 to 64 bits, runs of zeros or ones, two sectors in each other's place.
void damage(Bytes& bytes, Random& random) {
  const uint64_t kind = below(random, 3);
  if (kind == 0) {
    for (uint64_t n = 2 + below(random, 63); n > 0; --n)
      flip(bytes, below(random, 8 * bytes.size()));
  } else if (kind == 1) {
    const uint64_t size = 1 + below(random, 4'096);
    const uint64_t start = below(random, bytes.size());
    const auto end = bytes.begin() + std::min<uint64_t>(bytes.size(), start + size);
    std::fill(bytes.begin() + start, end, random() % 2 ? std::byte{0} : std::byte{0xFF});
  } else {
    const uint64_t sectors = bytes.size() / 4'096;
    const uint64_t a = below(random, sectors), b = below(random, sectors);
    std::swap_ranges(bytes.begin() + a * 4'096, bytes.begin() + (a + 1) * 4'096,
                     bytes.begin() + b * 4'096);
  }
}

TEST(larger_damage_is_found) {
  Random random(3);
  const std::vector<Bytes> all = files(2'000);
  for (int i = 0; i < 3'000; ++i) {
    const Bytes& intact = all[i % all.size()];
    Bytes bytes = intact;
    damage(bytes, random);
    CHECK_EQ(complaint(bytes).empty(), bytes == intact);
  }
}

TEST(any_truncation_is_found) {
  Random random(4);
  for (const Bytes& bytes : files(300)) {
    std::vector<uint64_t> lengths;
    for (uint64_t length = 0; length <= format::kHeaderBytes; ++length) lengths.push_back(length);
    const format::RawHeader raw = header_of(bytes);
    for (uint32_t i = 0; i < raw.section_count; ++i) {
      const uint64_t start = raw.sections[i].offset, end = start + raw.sections[i].length;
      for (const uint64_t edge : {start, end}) {
        for (const uint64_t length : {edge - 1, edge, edge + 1}) lengths.push_back(length);
      }
    }
    for (int i = 0; i < 1'000; ++i) lengths.push_back(below(random, bytes.size()));
    for (const uint64_t length : lengths) {
      if (length >= bytes.size()) continue;
      for (const Verify verify : {Verify::full, Verify::header, Verify::off}) {
        CHECK(!complaint(std::span(bytes).first(length), verify).empty());
      }
    }
  }
}

TEST(anything_appended_is_found) {
  Random random(5);
  for (const Bytes& bytes : files(50)) {
    for (const size_t extra : {1, 7, 512, 4'095, 4'096, 4'097, 100'000}) {
      for (const std::byte filler : {std::byte{0}, static_cast<std::byte>(random())}) {
        Bytes longer = bytes;
        longer.resize(bytes.size() + extra, filler);
        for (const Verify verify : {Verify::full, Verify::header, Verify::off}) {
          CHECK(contains(complaint(longer, verify), "appended"));
        }
      }
    }
    Bytes twice = bytes;
    twice.insert(twice.end(), bytes.begin(), bytes.end());
    CHECK(contains(complaint(twice), "appended"));
  }
}

TEST(messages_name_the_section_and_the_file) {
  const TemporaryDirectory directory;
  const Bytes intact =
      format::serialize(random_parts({.count = 100, .pq_bytes = 4, .pq_dim = 8, .hot = 9}));
  for (uint32_t kind = 1; kind <= format::kLastSectionKind; ++kind) {
    const auto section = section_of(intact, static_cast<format::SectionKind>(kind));
    if (section.length == 0) continue;
    Bytes bytes = intact;
    flip(bytes, 8 * (section.offset + section.length / 2) + 1);
    const std::string name = format::name_of(static_cast<format::SectionKind>(kind));
    CHECK(contains(complaint(bytes), "section " + name + ": the checksum"));
  }
  Bytes bytes = intact;
  flip(bytes, 8 * 4'000);
  write_file(directory / "broken", bytes);
  Monitor monitor;
  try {
    format::open(io::posix(), directory / "broken", Verify::full, monitor);
    CHECK(false);
  } catch (const Error& error) {
    CHECK(contains(error.what(), directory / "broken"));
    CHECK(contains(error.what(), "header: the checksum is wrong"));
  }
}

}  // namespace
}  // namespace bigrain
