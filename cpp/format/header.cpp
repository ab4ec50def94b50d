// SPDX-License-Identifier: Apache-2.0
// Each quantity is believed once: sizes are recomputed from n, d, R and the like, and the table is
// compared with the outcome, so that no pair of fields can disagree.
#include "format/header.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "bigrain/error.h"
#include "format/nodes.h"
#include "format/sniff.h"
#include "util/crc32c.h"

namespace bigrain::format {

namespace {

uint32_t crc_of(RawHeader raw) {
  raw.crc = 0;
  return crc32c(&raw, sizeof raw);
}

std::string version_name(uint16_t major, uint16_t minor) {
  return std::to_string(major) + "." + std::to_string(minor);
}

void check_magic(const RawHeader& raw, size_t available, uint64_t file_size) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&raw);
  const size_t known = std::min(available, kMagic.size());
  if (available == 0 || std::memcmp(bytes, kMagic.data(), known) != 0) {
    throw Error::corrupt("not a Bigrain index; this looks like " +
                         looks_like({bytes, available}, file_size));
  }
  if (available < kHeaderBytes) {
    throw Error::corrupt("header: the file ends after " + std::to_string(file_size) +
                         " bytes, expected at least " + std::to_string(kHeaderBytes) +
                         ": it is truncated");
  }
}

void check_version(const RawHeader& raw) {
  if (raw.major == kMajor && raw.minor <= kMinor) return;
  const std::string found = version_name(raw.major, raw.minor);
  const std::string newest = version_name(kMajor, kMinor);
  if (raw.major == 0) throw Error::corrupt("header: there is no format version " + found);
  throw Error::corrupt("the file has format version " + found + ", this Bigrain reads up to " +
                       newest + ": install a newer Bigrain to read it");
}

void check_zero(std::span<const uint8_t> bytes) {
  if (std::any_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte != 0; })) {
    throw Error::corrupt("header: reserved bytes are not zero");
  }
}

void check_constants(const RawHeader& raw) {
  if (raw.endian_marker != kEndianMarker) {
    throw Error::corrupt("header: the byte-order marker is not 0x01020304");
  }
  uint32_t known_flags = 0;
  if (raw.minor >= kMinorNodes && raw.count > 0) known_flags |= kFlagIds;
  if (raw.minor >= kMinorPqGiven && raw.count > 0 && raw.pq_bytes > 0) known_flags |= kFlagPqGiven;
  if ((raw.flags & ~known_flags) != 0) throw Error::corrupt("header: unknown flags are set");
  if (raw.minor == kMinorPqGiven && (raw.flags & kFlagPqGiven) == 0) {
    throw Error::corrupt("header: version 1.3 without the flag that makes it more than 1.2");
  }
  if (raw.rotation_rounds != kRotationRounds) {
    throw Error::corrupt("header: the number of rotation rounds is " +
                         std::to_string(raw.rotation_rounds) + ", expected " +
                         std::to_string(kRotationRounds));
  }
  const RawHeader none{};
  const size_t new_bytes = offsetof(RawHeader, reserved_middle) - offsetof(RawHeader, pq_bytes);
  const bool reserved_used =
      (raw.minor == 0 && raw.code_dim != 0) ||
      (raw.minor < kMinorNodes && std::memcmp(&raw.pq_bytes, &none.pq_bytes, new_bytes) != 0);
  if (reserved_used) {
    throw Error::corrupt("header: reserved bytes are not zero");
  }
  check_zero(raw.reserved_middle);
  check_zero(raw.reserved_end);
}

IndexMeta meta_of(const RawHeader& raw) {
  return {.metric = static_cast<Metric>(raw.metric),
          .dtype = static_cast<Dtype>(raw.dtype),
          .dim = raw.dim,
          .code_dim = raw.major == 1 && raw.minor == 0 ? raw.dim : raw.code_dim,
          .count = raw.count,
          .degree = raw.degree,
          .entry = raw.entry,
          .build_width = raw.build_width,
          .alpha = raw.alpha,
          .seed = raw.seed,
          .bound_ratio = raw.bound_ratio,
          .bound_offset = raw.bound_offset,
          .pq_bytes = raw.pq_bytes,
          .pq_dim = raw.pq_dim,
          .pq_given = (raw.flags & kFlagPqGiven) != 0};
}

void check_code_stride(const RawHeader& raw, const IndexMeta& meta) {
  const uint32_t expected = code_stride(meta.code_dim);
  if (raw.code_stride == expected) return;
  throw Error::corrupt("header: the size of a code record is " + std::to_string(raw.code_stride) +
                       ", expected " + std::to_string(expected));
}

void check_point_bytes(const RawHeader& raw, const IndexMeta& meta, bool has_ids) {
  if (raw.minor < kMinorNodes) return;
  const uint32_t expected = node_shape(meta, has_ids).point_bytes();
  if (raw.point_bytes == expected) return;
  throw Error::corrupt("header: the size of a point is " + std::to_string(raw.point_bytes) +
                       ", expected " + std::to_string(expected));
}

void check_count(SectionKind kind, uint64_t count, uint64_t most) {
  if (count <= most) return;
  throw Error::corrupt(std::string("header: section ") + name_of(kind) + " has " +
                       std::to_string(count) + " points, expected at most " + std::to_string(most));
}

// Which optional sections are there; everything else about them is checked by equality.
Layout expected_layout(const RawHeader& raw, const IndexMeta& meta) {
  if (raw.section_count > kMaxSections) {
    throw Error::corrupt("header: the number of sections is " + std::to_string(raw.section_count) +
                         ", expected at most " + std::to_string(kMaxSections));
  }
  OptionalCounts counts;
  counts.nodes = raw.minor >= kMinorNodes;
  counts.slack = raw.minor >= kMinorSlack;
  counts.ids = (raw.flags & kFlagIds) != 0;
  for (const RawSection& section : std::span(raw.sections, raw.section_count)) {
    const auto kind = static_cast<SectionKind>(section.kind);
    if (kind == SectionKind::ids) counts.ids = true;
    if (kind == SectionKind::hot) counts.hot = section.count;
    if (kind == SectionKind::tuning) counts.tune_points = section.count;
    if (kind == SectionKind::trials) counts.trials = section.count;
  }
  if (counts.slack && counts.tune_points == 0) {
    throw Error::corrupt(
        "header: version 1.4 without the recall curve that makes it more than 1.3");
  }
  check_count(SectionKind::tuning, counts.tune_points, kMaxTunePoints);
  check_count(SectionKind::trials, counts.trials, kMaxTrials);
  check_count(SectionKind::hot, counts.hot, counts.nodes ? meta.count : 0);
  return compute_layout(meta, counts);
}

RawSection raw_section(const Section& section, uint32_t crc) {
  return {static_cast<uint32_t>(section.kind),
          section.element_size,
          section.offset,
          section.length,
          section.count,
          crc,
          0};
}

void check_table(const RawHeader& raw, const Layout& layout) {
  if (raw.section_count != layout.sections.size()) {
    throw Error::corrupt("header: the number of sections is " + std::to_string(raw.section_count) +
                         ", expected " + std::to_string(layout.sections.size()));
  }
  for (size_t i = 0; i < kMaxSections; ++i) {
    RawSection expected{};
    if (i < layout.sections.size()) {
      expected = raw_section(layout.sections[i], raw.sections[i].crc);
    }
    if (std::memcmp(&expected, &raw.sections[i], sizeof expected) == 0) continue;
    const std::string which =
        i < layout.sections.size() ? name_of(layout.sections[i].kind) : "(unused)";
    throw Error::corrupt("header: entry " + std::to_string(i) + " of the section table, " + which +
                         ", does not fit the index that the header describes");
  }
}

void check_length(const RawHeader& raw, const Layout& layout, uint64_t file_size) {
  if (raw.file_length != layout.file_length) {
    throw Error::corrupt("header: the file length is given as " + std::to_string(raw.file_length) +
                         ", expected " + std::to_string(layout.file_length));
  }
  if (file_size == layout.file_length) return;
  throw Error::corrupt(
      "the file has " + std::to_string(file_size) + " bytes, its header says " +
      std::to_string(layout.file_length) +
      (file_size < layout.file_length ? ": it is truncated" : ": something was appended to it"));
}

}  // namespace

RawHeader encode_header(const Header& header) {
  RawHeader raw{};
  const IndexMeta& meta = header.meta;
  raw.magic = kMagic;
  raw.major = header.major;
  raw.minor = header.minor;
  raw.endian_marker = kEndianMarker;
  raw.flags = (header.has_ids ? kFlagIds : 0) | (meta.pq_given ? kFlagPqGiven : 0);
  raw.file_length = header.layout.file_length;
  raw.count = meta.count;
  raw.dim = meta.dim;
  raw.degree = meta.degree;
  raw.dtype = static_cast<uint8_t>(meta.dtype);
  raw.metric = static_cast<uint8_t>(meta.metric);
  raw.rotation_rounds = kRotationRounds;
  raw.code_stride = code_stride(meta.code_dim);
  raw.code_dim = meta.code_dim;
  raw.bound_ratio = meta.bound_ratio;
  raw.bound_offset = meta.bound_offset;
  raw.pq_bytes = meta.pq_bytes;
  raw.pq_dim = meta.pq_dim;
  raw.point_bytes = node_shape(meta, header.has_ids).point_bytes();
  raw.entry = meta.entry;
  raw.build_width = meta.build_width;
  raw.alpha = meta.alpha;
  raw.seed = meta.seed;
  raw.section_count = static_cast<uint32_t>(header.layout.sections.size());
  for (size_t i = 0; i < header.layout.sections.size(); ++i) {
    raw.sections[i] = raw_section(header.layout.sections[i], header.section_crcs[i]);
  }
  raw.crc = crc_of(raw);
  return raw;
}

Header decode_header(const RawHeader& raw, size_t available, uint64_t file_size, Verify verify) {
  check_magic(raw, available, file_size);
  if (verify != Verify::off && raw.crc != crc_of(raw)) {
    throw Error::corrupt("header: the checksum is wrong: the file is damaged");
  }
  check_version(raw);
  check_constants(raw);
  Header header;
  header.major = raw.major;
  header.minor = raw.minor;
  header.meta = meta_of(raw);
  header.has_ids = (raw.flags & kFlagIds) != 0;
  check_ranges(header.meta);
  check_code_stride(raw, header.meta);
  check_point_bytes(raw, header.meta, header.has_ids);
  header.layout = expected_layout(raw, header.meta);
  for (const Section& section : header.layout.sections) {
    if (section.kind == SectionKind::ids) header.has_ids = true;  // before 1.2
  }
  check_table(raw, header.layout);
  check_length(raw, header.layout, file_size);
  for (size_t i = 0; i < header.layout.sections.size(); ++i) {
    header.section_crcs.push_back(raw.sections[i].crc);
  }
  return header;
}

}  // namespace bigrain::format
