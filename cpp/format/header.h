// SPDX-License-Identifier: Apache-2.0
// The first 4 KiB of an index file (docs/format.md), as bytes and as checked values.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "bigrain/params.h"
#include "format/layout.h"
#include "format/parts.h"
#include "io/file_system.h"

namespace bigrain::format {

static_assert(std::endian::native == std::endian::little, "files are little-endian");

// A first byte above 127, so that no text file begins like this.
inline constexpr std::array<uint8_t, 8> kMagic = {0x89, 'B', 'I', 'G', 'R', 'A', 'I', 'N'};
inline constexpr uint16_t kMajor = 1, kMinor = 4;
// Flags.
inline constexpr uint32_t kFlagIds = 1;      // records hold external ids; since 1.2
inline constexpr uint32_t kFlagPqGiven = 2;  // IndexMeta::pq_given; since 1.3
// Since this minor version points lie in records (format/nodes.h), not in arrays.
inline constexpr uint16_t kMinorNodes = 2;
// Files say the least version that reads them.
inline constexpr uint16_t kMinorPqGiven = 3, kMinorSlack = 4;
constexpr uint16_t minor_of(const IndexMeta& meta, bool has_slack) {
  if (has_slack) return kMinorSlack;
  return meta.pq_given ? kMinorPqGiven : kMinorNodes;
}
inline constexpr uint32_t kEndianMarker = 0x01020304;

struct RawSection {
  uint32_t kind;
  uint32_t element_size;
  uint64_t offset;
  uint64_t length;
  uint64_t count;
  uint32_t crc;
  uint32_t reserved;
};
static_assert(sizeof(RawSection) == 40);

struct RawHeader {
  std::array<uint8_t, 8> magic;
  uint16_t major;
  uint16_t minor;
  uint32_t crc;  // of all 4,096 bytes with this field zero
  uint32_t endian_marker;
  uint32_t flags;
  uint64_t file_length;
  uint64_t count;
  uint32_t dim;
  uint32_t degree;
  uint8_t dtype;
  uint8_t metric;
  uint16_t rotation_rounds;
  uint32_t code_stride;
  uint32_t entry;
  uint32_t build_width;
  float alpha;
  uint32_t section_count;
  uint64_t seed;
  uint32_t code_dim;     // since 1.1; before it, zero
  uint32_t pq_bytes;     // since 1.2; before it, zero
  uint32_t pq_dim;       // since 1.2; before it, zero
  uint32_t point_bytes;  // since 1.2: row, id and vector, so that all sizes are said twice
  float bound_ratio, bound_offset;  // since 1.2
  uint8_t reserved_middle[152];
  RawSection sections[kMaxSections];
  uint8_t reserved_end[2560];
};
static_assert(sizeof(RawHeader) == kHeaderBytes);
static_assert(offsetof(RawHeader, file_length) == 24 && offsetof(RawHeader, dim) == 40 &&
              offsetof(RawHeader, code_stride) == 52 && offsetof(RawHeader, seed) == 72 &&
              offsetof(RawHeader, sections) == 256);

// A header that has passed every check.
struct Header {
  uint16_t major = kMajor, minor = kMinorNodes;
  IndexMeta meta;
  bool has_ids = false;
  Layout layout;
  std::vector<uint32_t> section_crcs;  // one per section of the layout
};

// The header's bytes, with its checksum.
RawHeader encode_header(const Header& header);

// Checks everything that 4 KiB and the true size of the file can tell: what kind of file it is, the
// checksum (unless `verify` is off), the version, every range, and that the section table equals
// the layout which follows from the other fields and covers the file exactly. `available` is how
// many bytes at `raw` come from the file. Allocates nothing that the file's content could enlarge.
// Throws Error(corrupt).
Header decode_header(const RawHeader& raw, size_t available, uint64_t file_size, Verify verify);

// The header of the file at `path`, all checks made. Throws Error(io) or Error(corrupt).
Header read_header(io::FileSystem& files, const std::string& path);

}  // namespace bigrain::format
