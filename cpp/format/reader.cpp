// SPDX-License-Identifier: Apache-2.0
// The order of reading is the security argument: size, header, ranges, recomputed layout; only then
// memory, whose total is now known to be no more than the file has; then the data in blocks.
// pread rather than a mapping: a file truncated under our feet is a short read, not a SIGBUS.
#include <algorithm>
#include <cstring>
#include <functional>

#include "bigrain/error.h"
#include "format/contents.h"
#include "format/header.h"
#include "format/index_file.h"
#include "io/file.h"
#include "util/crc32c.h"

namespace bigrain::format {

namespace {

constexpr size_t kBlockBytes = size_t{8} << 20;  // see writer.cpp

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
  }
  return nullptr;
}

void check_padding(const Source& source, const Section& section) {
  std::byte padding[kAlignment];
  const uint64_t end = section.offset + section.length;
  const size_t size = round_up(end, kAlignment) - end;
  read_exactly(source, end, padding, size);
  if (std::any_of(padding, padding + size, [](std::byte byte) { return byte != std::byte{0}; })) {
    throw Error::corrupt(std::string("section ") + name_of(section.kind) +
                         ": the bytes behind it are not zero: the file is damaged");
  }
}

void read_section(const Source& source, const Section& section, uint32_t expected_crc,
                  Verify verify, IndexParts& parts, Monitor& monitor) {
  std::byte* to = allocate(parts, section);
  uint32_t crc = 0;
  for (uint64_t begin = 0; begin < section.length; begin += kBlockBytes) {
    const size_t size = std::min<uint64_t>(kBlockBytes, section.length - begin);
    monitor.check();
    read_exactly(source, section.offset + begin, to + begin, size);
    if (verify == Verify::full) crc = crc32c(to + begin, size, crc);
    monitor.advance(size);
  }
  if (verify != Verify::full) return;
  if (crc != expected_crc) {
    throw Error::corrupt(std::string("section ") + name_of(section.kind) +
                         ": the checksum is wrong: the file is damaged");
  }
  check_padding(source, section);
}

// These are small beside the rest and used without further checks.
bool is_small(SectionKind kind) {
  return kind != SectionKind::graph && kind != SectionKind::codes && kind != SectionKind::vectors &&
         kind != SectionKind::ids;
}

std::unique_ptr<IndexParts> read_parts(const Source& source, Verify verify, Monitor& monitor) {
  const Header header = read_header(source, verify);
  auto parts = std::make_unique<IndexParts>();
  parts->meta = header.meta;
  monitor.start(header.layout.payload);
  for (size_t i = 0; i < header.layout.sections.size(); ++i) {
    const Section& section = header.layout.sections[i];
    read_section(source, section, header.section_crcs[i], verify, *parts, monitor);
    if (verify == Verify::full || is_small(section.kind)) {
      check_section(*parts, section.kind, monitor);
    }
  }
  monitor.check_now();
  return parts;
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
                                 Monitor& monitor) {
  const io::File file = io::File::open(files, path);
  return naming_the_file(path, [&] { return read_parts(source_of(file), verify, monitor); });
}

std::unique_ptr<IndexParts> parse(std::span<const std::byte> bytes, Verify verify,
                                  Monitor& monitor) {
  return read_parts(source_of(bytes), verify, monitor);
}

Header read_header(io::FileSystem& files, const std::string& path) {
  const io::File file = io::File::open(files, path);
  return naming_the_file(path, [&] { return read_header(source_of(file), Verify::header); });
}

}  // namespace bigrain::format
