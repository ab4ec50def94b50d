// SPDX-License-Identifier: Apache-2.0
// The order of reading is the security argument: size, header, ranges, recomputed layout; only then
// memory, whose total is now known to be no more than the file has; then the data in blocks.
// pread rather than a mapping: a file truncated under our feet is a short read, not a SIGBUS.
#include <algorithm>
#include <cstring>
#include <functional>

#include "bigrain/error.h"
#include "format/contents.h"
#include "format/file_writer.h"
#include "format/header.h"
#include "format/index_file.h"
#include "format/nodes.h"
#include "io/file.h"
#include "util/crc32c.h"

namespace bigrain::format {

namespace {

// The bytes of a file, wherever they are.
struct Source {
  uint64_t size = 0;
  // Copies up to `bytes` bytes; fewer only at the end.
  std::function<size_t(uint64_t offset, void* to, size_t bytes)> read;
};

Source source_of(const io::File& file) {
  return {file.info().size, [&file](uint64_t offset, void* to, size_t bytes) {
            return file.read(offset, to, bytes);
          }};
}

Source source_of(std::span<const std::byte> bytes) {
  return {bytes.size(), [bytes](uint64_t offset, void* to, size_t wanted) {
            const size_t rest = offset < bytes.size() ? bytes.size() - offset : 0;
            const size_t size = std::min(wanted, rest);
            if (size > 0) std::memcpy(to, bytes.data() + offset, size);
            return size;
          }};
}

void read_exactly(const Source& source, uint64_t offset, void* to, size_t bytes) {
  const size_t got = source.read(offset, to, bytes);
  if (got == bytes) return;
  throw Error::corrupt("the file was truncated at " + std::to_string(offset + got) +
                       " bytes while it was being read");
}

Header read_header(const Source& source, Verify verify) {
  RawHeader raw{};
  const size_t available = source.read(0, &raw, sizeof raw);
  return decode_header(raw, available, source.size, verify);
}

bool is_kept(SectionKind kind, const Keep& keep, const IndexMeta& meta) {
  switch (kind) {
    case SectionKind::graph:
      return keep.graph;
    case SectionKind::vectors:
      return keep.vectors;
    case SectionKind::ids:
      return keep.ids;
    case SectionKind::codes:
      return keep.codes;
    case SectionKind::pq_codes:
      return keep.pq_codes || (meta.pq_given && keep.everything());
    case SectionKind::sums:
      return keep.sums;
    default:
      return true;
  }
}

std::byte* allocate(IndexParts& parts, const Section& section) {
  const auto in = [&section](Buffer& buffer) {
    buffer = Buffer(section.length);
    return buffer.data();
  };
  switch (section.kind) {
    case SectionKind::graph:
      return in(parts.graph);
    case SectionKind::codes:
      return in(parts.codes);
    case SectionKind::vectors:
      return in(parts.vectors);
    case SectionKind::ids:
      return in(parts.ids);
    case SectionKind::mean:
      return in(parts.mean);
    case SectionKind::signs:
      return in(parts.signs);
    case SectionKind::tuning:
      parts.tuning.resize(section.count);
      return reinterpret_cast<std::byte*>(parts.tuning.data());
    case SectionKind::scales:
      return in(parts.scales);
    case SectionKind::projection:
      return in(parts.projection);
    case SectionKind::trials:
      parts.trials.resize(section.count);
      return reinterpret_cast<std::byte*>(parts.trials.data());
    case SectionKind::sums:
      return in(parts.sums);
    case SectionKind::pq_rotation:
      return in(parts.pq_rotation);
    case SectionKind::pq_codebooks:
      return in(parts.pq_codebooks);
    case SectionKind::pq_codes:
      return in(parts.pq_codes);
    case SectionKind::hot:
      return in(parts.hot);
    case SectionKind::nodes:  // unpacked into arrays
    case SectionKind::fulls:
      break;
  }
  return nullptr;
}

[[noreturn]] void fail(SectionKind kind, const std::string& what) {
  throw Error::corrupt(std::string("section ") + name_of(kind) + ": " + what +
                       ": the file is damaged");
}

// Reads the sections of one file one after the other.
class SectionReader {
 public:
  SectionReader(const Source& source, const Header& header, Verify verify, const Keep& keep,
                IndexParts& parts, Monitor& monitor)
      : source_(source),
        shape_(node_shape(header.meta, header.has_ids)),
        verify_(verify),
        keep_(keep),
        parts_(parts),
        monitor_(monitor) {}

  void read(const Section& section, uint32_t expected_crc) {
    const bool records = section.kind == SectionKind::nodes || section.kind == SectionKind::fulls;
    const bool kept =
        records ? wants_records(section.kind) : is_kept(section.kind, keep_, parts_.meta);
    // Sums are compared with the pages that came before them.
    if (!kept && verify_ != Verify::full) return monitor_.advance(section.length);
    const uint32_t crc = records ? read_records(section)
                         : kept  ? read_array(section, allocate(parts_, section))
                                 : pass_over(section);
    if (kept && section.kind == SectionKind::tuning) spread(section);
    // What stays in memory when pages do not will not be looked at again.
    if (verify_ == Verify::off || (verify_ == Verify::header && keep_.everything())) return;
    if (crc != expected_crc) fail(section.kind, "the checksum is wrong");
    if (verify_ == Verify::full) check_padding(section);
  }

  void check_sums() const {
    if (verify_ != Verify::full || sums_.empty()) return;
    const auto stored = (keep_.sums ? parts_.sums : stored_sums_).as<uint32_t>();
    const auto wrong = std::mismatch(sums_.begin(), sums_.end(), stored.begin(), stored.end());
    if (wrong.first == sums_.end()) return;
    fail(SectionKind::sums,
         "that of page " + std::to_string(wrong.first - sums_.begin()) + " is wrong");
  }

 private:
  bool wants_records(SectionKind kind) const {
    if (kind == SectionKind::fulls) return keep_.vectors;
    return keep_.graph || keep_.ids || (shape_.coupled && keep_.vectors);
  }

  // Points of files before 1.4 have no slack.
  void spread(const Section& section) {
    if (section.element_size == sizeof(TunePoint)) return;
    const auto* packed = reinterpret_cast<const std::byte*>(parts_.tuning.data());
    for (size_t i = section.count; i-- > 0;) {
      TunePoint point{};
      std::memcpy(static_cast<void*>(&point), packed + i * kPlainTuneBytes, kPlainTuneBytes);
      parts_.tuning[i] = point;
    }
  }

  uint32_t read_array(const Section& section, std::byte* to) {
    uint32_t crc = 0;
    for (uint64_t begin = 0; begin < section.length; begin += kBlockBytes) {
      const size_t size = std::min<uint64_t>(kBlockBytes, section.length - begin);
      read_block(section.offset + begin, to + begin, size);
      crc = crc32c(to + begin, size, crc);
    }
    return crc;
  }

  // For the checksum alone.
  uint32_t pass_over(const Section& section) {
    Buffer block(std::min<uint64_t>(kBlockBytes, section.length));
    if (section.kind == SectionKind::sums) stored_sums_ = Buffer(section.length);
    uint32_t crc = 0;
    for (uint64_t begin = 0; begin < section.length; begin += kBlockBytes) {
      const size_t size = std::min<uint64_t>(kBlockBytes, section.length - begin);
      read_block(section.offset + begin, block.data(), size);
      crc = crc32c(block.data(), size, crc);
      if (section.kind == SectionKind::sums) {
        std::memcpy(stored_sums_.data() + begin, block.data(), size);
      }
    }
    return crc;
  }

  uint32_t read_records(const Section& section) {
    const bool nodes = section.kind == SectionKind::nodes;
    const RecordShape& records = nodes ? shape_.nodes : shape_.fulls;
    allocate_points(nodes);
    const uint64_t step =
        std::max<uint64_t>(1, kBlockBytes / kPageBytes / records.pages_each) * records.pages_each;
    Buffer block(std::min(step, records.pages()) * kPageBytes);
    uint32_t crc = 0;
    for (uint64_t page = 0; page < records.pages(); page += step) {
      const size_t size = std::min(step, records.pages() - page) * kPageBytes;
      read_block(section.offset + page * kPageBytes, block.data(), size);
      crc = crc32c(block.data(), size, crc);
      const std::span<const std::byte> pages(block.data(), size);
      sum_pages(pages);
      const bool clean = nodes ? unpack_nodes(shape_, pages, page, parts_)
                               : unpack_fulls(shape_, pages, page, parts_);
      if (!clean && verify_ == Verify::full) {
        fail(section.kind, "bytes between the records are not zero");
      }
    }
    return crc;
  }

  void allocate_points(bool nodes) {
    const uint64_t count = parts_.meta.count;
    if (nodes && keep_.graph) parts_.graph = Buffer(count * shape_.row_bytes);
    if (nodes && keep_.ids && shape_.has_ids) parts_.ids = Buffer(count * sizeof(int64_t));
    if (nodes == shape_.coupled && keep_.vectors) {
      parts_.vectors = Buffer(count * shape_.vector_bytes);
    }
  }

  void sum_pages(std::span<const std::byte> pages) {
    if (verify_ != Verify::full) return;
    for (size_t page = 0; page < pages.size(); page += kPageBytes) {
      sums_.push_back(page_sum(pages.data() + page, sums_.size()));
    }
  }

  void read_block(uint64_t offset, std::byte* to, size_t size) {
    monitor_.check();
    read_exactly(source_, offset, to, size);
    monitor_.advance(size);
  }

  void check_padding(const Section& section) const {
    std::byte padding[kAlignment];
    const uint64_t end = section.offset + section.length;
    const size_t size = round_up(end, kAlignment) - end;
    read_exactly(source_, end, padding, size);
    if (std::any_of(padding, padding + size, [](std::byte byte) { return byte != std::byte{0}; })) {
      fail(section.kind, "the bytes behind it are not zero");
    }
  }

  const Source& source_;
  NodeShape shape_;
  Verify verify_;
  Keep keep_;
  IndexParts& parts_;
  Monitor& monitor_;
  std::vector<uint32_t> sums_;  // of the pages read, for full verification
  Buffer stored_sums_;
};

// Sections that are small beside the rest and used without further checks.
bool is_small(SectionKind kind) {
  switch (kind) {
    case SectionKind::graph:
    case SectionKind::codes:
    case SectionKind::vectors:
    case SectionKind::ids:
    case SectionKind::pq_codes:
      return false;
    default:
      return true;
  }
}

// The parts whose content is checked when a section has been read.
std::vector<SectionKind> contents_of(SectionKind kind, const NodeShape& shape) {
  using enum SectionKind;
  if (kind == nodes && shape.coupled) return {graph, ids, vectors};
  if (kind == nodes) return {graph, ids};
  if (kind == fulls) return {vectors};
  return {kind};
}

std::unique_ptr<IndexParts> read_parts(const Source& source, const Header& header, Verify verify,
                                       const Keep& keep, Monitor& monitor) {
  auto parts = std::make_unique<IndexParts>();
  parts->meta = header.meta;
  monitor.start(header.layout.payload);
  SectionReader reader(source, header, verify, keep, *parts, monitor);
  const NodeShape shape = node_shape(header.meta, header.has_ids);
  for (size_t i = 0; i < header.layout.sections.size(); ++i) {
    const SectionKind section = header.layout.sections[i].kind;
    reader.read(header.layout.sections[i], header.section_crcs[i]);
    for (const SectionKind kind : contents_of(section, shape)) {
      if (!is_kept(kind, keep, parts->meta)) continue;
      if (verify == Verify::full || is_small(kind)) check_section(*parts, kind, monitor);
    }
  }
  reader.check_sums();
  monitor.check_now();
  return parts;
}

std::unique_ptr<IndexParts> read_parts(const Source& source, Verify verify, const Keep& keep,
                                       Monitor& monitor) {
  return read_parts(source, read_header(source, verify), verify, keep, monitor);
}

// Messages about content do not know the file; whoever reads them must.
template <class Read>
auto naming_the_file(const std::string& path, Read read) {
  try {
    return read();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::corrupt) throw;
    throw Error::corrupt("'" + path + "': " + error.what());
  }
}

}  // namespace

std::unique_ptr<IndexParts> open(io::FileSystem& files, const std::string& path, Verify verify,
                                 Monitor& monitor, const Keep& keep) {
  const io::File file = io::File::open(files, path);
  return naming_the_file(path, [&] { return read_parts(source_of(file), verify, keep, monitor); });
}

std::unique_ptr<IndexParts> parse(std::span<const std::byte> bytes, Verify verify,
                                  Monitor& monitor) {
  return read_parts(source_of(bytes), verify, Keep{}, monitor);
}

Header read_header(io::FileSystem& files, const std::string& path) {
  const io::File file = io::File::open(files, path);
  return naming_the_file(path, [&] { return read_header(source_of(file), Verify::header); });
}

}  // namespace bigrain::format
