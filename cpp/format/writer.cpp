// SPDX-License-Identifier: Apache-2.0
// Sections are checksummed while they are written and the header, which holds the checksums, comes
// last: one pass over the memory.
#include <algorithm>
#include <array>
#include <cstring>
#include <functional>

#include "bigrain/error.h"
#include "format/header.h"
#include "format/index_file.h"
#include "io/atomic_save.h"
#include "util/crc32c.h"

namespace bigrain::format {

namespace {

// Large enough for full disk speed, small enough to notice Ctrl-C on a slow disk.
constexpr size_t kBlockBytes = size_t{8} << 20;

// Where the bytes of a file go.
using Sink = std::function<void(uint64_t offset, const void* from, size_t bytes)>;

std::span<const std::byte> bytes_of(const IndexParts& parts, SectionKind kind) {
  const auto span = [](const Buffer& buffer) {
    return std::span<const std::byte>(buffer.data(), buffer.size());
  };
  switch (kind) {
    case SectionKind::graph:
      return span(parts.graph);
    case SectionKind::codes:
      return span(parts.codes);
    case SectionKind::vectors:
      return span(parts.vectors);
    case SectionKind::ids:
      return span(parts.ids);
    case SectionKind::mean:
      return span(parts.mean);
    case SectionKind::signs:
      return span(parts.signs);
    case SectionKind::tuning:
      return std::as_bytes(std::span(parts.tuning));
    case SectionKind::scales:
      return span(parts.scales);
    case SectionKind::projection:
      return span(parts.projection);
    case SectionKind::trials:
      return std::as_bytes(std::span(parts.trials));
  }
  return {};
}

// The same checks as when reading, as far as they cost nothing, so that no file is written that
// would not open.
Layout checked_layout(const IndexParts& parts) {
  check_ranges(parts.meta);
  if (parts.tuning.size() > kMaxTunePoints) {
    throw Error::invalid("the recall curve has " + std::to_string(parts.tuning.size()) +
                         " points, expected at most " + std::to_string(kMaxTunePoints));
  }
  Layout layout = compute_layout(parts.meta, {.ids = parts.ids.size() > 0,
                                              .tune_points = parts.tuning.size(),
                                              .trials = parts.trials.size()});
  for (const Section& section : layout.sections) {
    const size_t size = bytes_of(parts, section.kind).size();
    if (size == section.length) continue;
    throw Error::invalid(std::string("section ") + name_of(section.kind) + " has " +
                         std::to_string(size) + " bytes, expected " +
                         std::to_string(section.length));
  }
  return layout;
}

// Writes one section with the zeros behind it; returns its checksum.
uint32_t write_section(const Section& section, std::span<const std::byte> bytes, const Sink& sink,
                       Monitor& monitor) {
  static constexpr std::array<std::byte, kAlignment> kZeros{};
  uint32_t crc = 0;
  for (size_t begin = 0; begin < bytes.size(); begin += kBlockBytes) {
    const auto block = bytes.subspan(begin, std::min(kBlockBytes, bytes.size() - begin));
    monitor.check();
    crc = crc32c(block.data(), block.size(), crc);
    sink(section.offset + begin, block.data(), block.size());
    monitor.advance(block.size());
  }
  const uint64_t padding = round_up(section.length, kAlignment) - section.length;
  if (padding > 0) sink(section.offset + section.length, kZeros.data(), padding);
  return crc;
}

void write_all(const IndexParts& parts, Header& header, const Sink& sink, Monitor& monitor) {
  monitor.start(header.layout.payload);
  for (const Section& section : header.layout.sections) {
    header.section_crcs.push_back(
        write_section(section, bytes_of(parts, section.kind), sink, monitor));
  }
  const RawHeader raw = encode_header(header);
  sink(0, &raw, sizeof raw);
  monitor.check_now();
}

// The oldest version that can say what the index holds, so that older readers lose nothing.
uint16_t minor_of(const IndexParts& parts) {
  const bool reranks = std::any_of(parts.tuning.begin(), parts.tuning.end(),
                                   [](const TunePoint& point) { return point.rerank != 0; });
  return parts.is_projected() || !parts.trials.empty() || reranks ? 1 : 0;
}

Header header_of(const IndexParts& parts) {
  return {.minor = minor_of(parts),
          .meta = parts.meta,
          .layout = checked_layout(parts),
          .section_crcs = {}};
}

}  // namespace

uint64_t save(const IndexParts& parts, io::FileSystem& files, const std::string& path,
              Monitor& monitor) {
  Header header = header_of(parts);
  io::atomic_save(files, path, [&](io::File& file) {
    const Sink sink = [&file](uint64_t offset, const void* from, size_t bytes) {
      file.write(offset, from, bytes);
    };
    write_all(parts, header, sink, monitor);
  });
  return header.layout.file_length;
}

std::vector<std::byte> serialize(const IndexParts& parts) {
  Header header = header_of(parts);
  std::vector<std::byte> bytes(header.layout.file_length);
  const Sink sink = [&bytes](uint64_t offset, const void* from, size_t size) {
    std::memcpy(bytes.data() + offset, from, size);
  };
  Monitor monitor;
  write_all(parts, header, sink, monitor);
  return bytes;
}

}  // namespace bigrain::format
