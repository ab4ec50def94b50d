// SPDX-License-Identifier: Apache-2.0
// An index in memory becomes a file in one pass over the memory.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "bigrain/error.h"
#include "format/file_writer.h"
#include "format/header.h"
#include "format/index_file.h"
#include "format/nodes.h"
#include "io/atomic_save.h"

namespace bigrain::format {

namespace {

std::span<const std::byte> bytes_of(const IndexParts& parts, SectionKind kind) {
  const auto span = [](const Buffer& buffer) {
    return std::span<const std::byte>(buffer.data(), buffer.size());
  };
  switch (kind) {
    case SectionKind::codes:
      return span(parts.codes);
    case SectionKind::mean:
      return span(parts.mean);
    case SectionKind::signs:
      return span(parts.signs);
    case SectionKind::scales:
      return span(parts.scales);
    case SectionKind::projection:
      return span(parts.projection);
    case SectionKind::trials:
      return std::as_bytes(std::span(parts.trials));
    case SectionKind::pq_rotation:
      return span(parts.pq_rotation);
    case SectionKind::pq_codebooks:
      return span(parts.pq_codebooks);
    case SectionKind::pq_codes:
      return span(parts.pq_codes);
    case SectionKind::hot:
      return span(parts.hot);
    case SectionKind::graph:  // parts of records
    case SectionKind::vectors:
    case SectionKind::ids:
    case SectionKind::nodes:
    case SectionKind::fulls:
    case SectionKind::sums:
    case SectionKind::tuning:  // with or without slack
      break;
  }
  return {};
}

// Whether bytes_of() knows the section.
bool is_array(SectionKind kind) {
  return kind != SectionKind::nodes && kind != SectionKind::fulls && kind != SectionKind::sums &&
         kind != SectionKind::tuning;
}

bool has_slack(const IndexParts& parts) {
  return std::any_of(parts.tuning.begin(), parts.tuning.end(),
                     [](const TunePoint& point) { return std::isfinite(point.slack); });
}

void check_size(const char* name, uint64_t found, uint64_t expected) {
  if (found == expected) return;
  throw Error::invalid(std::string("section ") + name + " has " + std::to_string(found) +
                       " bytes, expected " + std::to_string(expected));
}

// The same checks as when reading, as far as they cost nothing, so that no file is written that
// would not open.
Layout checked_layout(const IndexParts& parts) {
  check_ranges(parts.meta);
  if (parts.tuning.size() > kMaxTunePoints) {
    throw Error::invalid("the recall curve has " + std::to_string(parts.tuning.size()) +
                         " points, expected at most " + std::to_string(kMaxTunePoints));
  }
  OptionalCounts counts{.ids = parts.ids.size() > 0,
                        .hot = parts.hot.size() / sizeof(uint32_t),
                        .tune_points = parts.tuning.size(),
                        .slack = has_slack(parts),
                        .trials = parts.trials.size()};
  const Layout layout = compute_layout(parts.meta, counts);
  for (const Section& section : layout.sections) {
    if (!is_array(section.kind)) continue;
    if (section.kind == SectionKind::pq_codes && parts.pq_codes.size() == 0) continue;
    check_size(name_of(section.kind), bytes_of(parts, section.kind).size(), section.length);
  }
  // In memory, points are arrays, as they are in files of 1.0.
  counts.nodes = false;
  for (const Section& section : compute_layout(parts.meta, counts).sections) {
    if (section.kind == SectionKind::graph) {
      check_size("graph", parts.graph.size(), section.length);
    } else if (section.kind == SectionKind::vectors) {
      check_size("vectors", parts.vectors.size(), section.length);
    } else if (section.kind == SectionKind::ids) {
      check_size("ids", parts.ids.size(), section.length);
    }
  }
  return layout;
}

using Pack = void (*)(const NodeShape&, const IndexParts&, uint64_t, std::span<std::byte>);

// Records are packed a block at a time: a second copy of all vectors might not fit.
void append_records(FileWriter& writer, SectionKind kind, const RecordShape& records,
                    const NodeShape& shape, const IndexParts& parts, Pack pack) {
  const uint64_t step =
      std::max<uint64_t>(1, kBlockBytes / kPageBytes / records.pages_each) * records.pages_each;
  Buffer block(std::min(step, records.pages()) * kPageBytes);
  for (uint64_t page = 0; page < records.pages(); page += step) {
    const std::span<std::byte> out(block.data(),
                                   std::min(step, records.pages() - page) * kPageBytes);
    pack(shape, parts, page, out);
    writer.append(kind, out);
  }
}

// Encoded a block at a time: searches in memory do not need them.
void append_pq_codes(FileWriter& writer, const IndexParts& parts, const PqEncoder& encode) {
  const uint64_t step = std::max<uint64_t>(1, kBlockBytes / parts.meta.pq_bytes);
  std::vector<std::byte> block;
  for (uint64_t first = 0; first < parts.meta.count; first += step) {
    block.resize(std::min(step, parts.meta.count - first) * parts.meta.pq_bytes);
    encode(first, block);
    writer.append(SectionKind::pq_codes, block);
  }
}

void append_tuning(FileWriter& writer, const IndexParts& parts, size_t bytes_each) {
  std::vector<std::byte> points(parts.tuning.size() * bytes_each);
  for (size_t i = 0; i < parts.tuning.size(); ++i) {
    std::memcpy(points.data() + i * bytes_each, &parts.tuning[i], bytes_each);
  }
  writer.append(SectionKind::tuning, points);
}

void write_all(const IndexParts& parts, const PqEncoder& encode, const Header& header,
               const Sink& sink, Monitor& monitor) {
  monitor.start(header.layout.payload);
  const NodeShape shape = node_shape(parts.meta, header.has_ids);
  FileWriter writer(header, sink, monitor);
  for (const Section& section : header.layout.sections) {
    if (section.kind == SectionKind::nodes) {
      append_records(writer, section.kind, shape.nodes, shape, parts, &pack_nodes);
    } else if (section.kind == SectionKind::fulls) {
      append_records(writer, section.kind, shape.fulls, shape, parts, &pack_fulls);
    } else if (section.kind == SectionKind::pq_codes && parts.pq_codes.size() == 0) {
      append_pq_codes(writer, parts, encode);
    } else if (section.kind == SectionKind::tuning) {
      append_tuning(writer, parts, section.element_size);
    } else if (section.kind != SectionKind::sums) {
      writer.append(section.kind, bytes_of(parts, section.kind));
    }
  }
  writer.finish();
}

Header header_of(const IndexParts& parts) {
  Header header;
  header.meta = parts.meta;
  header.minor = minor_of(parts.meta, has_slack(parts));
  header.has_ids = parts.ids.size() > 0;
  header.layout = checked_layout(parts);
  return header;
}

}  // namespace

uint64_t save(const IndexParts& parts, io::FileSystem& files, const std::string& path,
              Monitor& monitor, const PqEncoder& encode) {
  const Header header = header_of(parts);
  io::atomic_save(files, path, [&](io::File& file) {
    const Sink sink = [&file](uint64_t offset, const void* from, size_t bytes) {
      file.write(offset, from, bytes);
    };
    write_all(parts, encode, header, sink, monitor);
  });
  return header.layout.file_length;
}

std::vector<std::byte> serialize(const IndexParts& parts, const PqEncoder& encode) {
  const Header header = header_of(parts);
  std::vector<std::byte> bytes(header.layout.file_length);
  const Sink sink = [&bytes](uint64_t offset, const void* from, size_t size) {
    std::memcpy(bytes.data() + offset, from, size);
  };
  Monitor monitor;
  write_all(parts, encode, header, sink, monitor);
  return bytes;
}

}  // namespace bigrain::format
