// SPDX-License-Identifier: Apache-2.0
// Index in and out of files and bytes.
#include <cstring>
#include <memory>
#include <utility>

#include "bigrain/index.h"
#include "format/header.h"
#include "format/index_file.h"
#include "index/disk_points.h"
#include "io/file.h"
#include "io/file_system.h"
#include "quant/pq_coder.h"
#include "util/monitor.h"
#include "util/thread_pool.h"

namespace bigrain {

namespace {

SmallBytes small_bytes(const IndexMeta& meta, const format::Layout& layout) {
  using enum format::SectionKind;
  SmallBytes bytes;
  for (const format::Section& section : layout.sections) {
    switch (section.kind) {
      case graph:
      case codes:
      case vectors:
      case ids:
      case nodes:
      case fulls:
      case sums:
      case pq_codes:
        continue;
      case pq_rotation:  // of the library's own making: in half precision (quant/pq_query.h)
        bytes.adjacency += meta.pq_given ? section.length : section.length / 2;
        break;
      case pq_codebooks:
        bytes.adjacency += section.length;
        break;
      case signs:
      case scales:
      case projection:
        bytes.vectors += section.length;
        break;
      case hot:
        break;
      default:
        bytes.vectors += section.length;
        bytes.adjacency += section.length;
    }
    bytes.memory += section.length;
  }
  return bytes;
}

format::Keep kept(SearchMode mode, const format::NodeShape& shape) {
  const bool rows = mode == SearchMode::vectors;
  return {.graph = rows,
          .vectors = false,
          .ids = rows && !shape.coupled,
          .codes = rows,
          .pq_codes = !rows,
          .sums = true};
}

// Indexes in memory do without PQ codes; files have them.
format::PqEncoder encoder_of(const IndexParts& parts) {
  if (parts.meta.pq_bytes == 0) return {};
  return [coder = std::make_shared<quant::PqCoder>(parts)](uint64_t first,
                                                           std::span<std::byte> codes) {
    Monitor unwatched;
    coder->encode(first, codes, resolve_threads(0), unwatched);
  };
}

uint64_t offset_of(const format::Layout& layout, format::SectionKind kind) {
  for (const format::Section& section : layout.sections) {
    if (section.kind == kind) return section.offset;
  }
  return 0;
}

// The file is opened a second time for its pages: it must still be the one whose header was read.
void check_same_file(const io::BlockFile& file, const format::Header& header) {
  const auto reader = file.make_reader(1, format::kHeaderBytes);
  const io::BlockRead first[] = {{0, format::kHeaderBytes, reader->arena().data(), 0}};
  io::BlockDone done[1];
  reader->submit(first);
  reader->wait(done);
  if (done[0].result < 0) throw io::io_error(-done[0].result, "read", file.path());
  const format::RawHeader expected = format::encode_header(header);
  if (done[0].result == static_cast<int32_t>(format::kHeaderBytes) &&
      std::memcmp(reader->arena().data(), &expected, sizeof expected) == 0) {
    return;
  }
  throw Error::io(EAGAIN, file.path(),
                  "'" + file.path() + "' was replaced while it was being opened; open it again");
}

}  // namespace

Index Index::open(const std::string& path, const OpenParams& params, Monitor& monitor) {
  io::FileSystem& files = io::posix();
  const auto everything = [&] { return Index(format::open(files, path, params.verify, monitor)); };
  if (params.memory == kAllMemory) return everything();
  const format::Header header = format::read_header(files, path);
  const format::NodeShape shape = format::node_shape(header.meta, header.has_ids);
  Residency residency =
      plan_residency(header.meta, shape, small_bytes(header.meta, header.layout), params.memory);
  if (residency.mode == SearchMode::memory) return everything();
  if (header.minor < format::kMinorNodes) {
    throw Error::not_supported("'" + path + "' has format " + std::to_string(header.major) + "." +
                               std::to_string(header.minor) +
                               ", whose vectors cannot be read one by one; open it with "
                               "memory=\"all\" and save it again");
  }
  auto parts = format::open(files, path, params.verify, monitor, kept(residency.mode, shape));
  io::BlockFile file = io::BlockFile::open(path, io::parse_io_choice(params.io));
  check_same_file(file, header);
  format::PointFile points(path, shape, offset_of(header.layout, format::SectionKind::nodes),
                           offset_of(header.layout, format::SectionKind::fulls),
                           std::move(parts->sums));
  const bool leaves_rows = residency.mode == SearchMode::adjacency;
  auto disk =
      std::make_unique<DiskPoints>(std::move(points), std::move(file), std::move(residency));
  if (leaves_rows) {
    disk->leave_rows(*parts);
  } else {
    disk->keep_vectors(*parts);
  }
  return Index(std::move(parts), std::move(disk));
}

Index Index::from_bytes(std::span<const std::byte> bytes, Verify verify, Monitor& monitor) {
  return Index(format::parse(bytes, verify, monitor));
}

uint64_t Index::save(const std::string& path, Monitor& monitor) const {
  require_memory("save");
  return format::save(*parts_, io::posix(), path, monitor, encoder_of(*parts_));
}

std::vector<std::byte> Index::to_bytes() const {
  require_memory("pickling");
  return format::serialize(*parts_, encoder_of(*parts_));
}

}  // namespace bigrain
