// SPDX-License-Identifier: Apache-2.0
#include "format/file_writer.h"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <utility>

#include "format/nodes.h"
#include "util/crc32c.h"

namespace bigrain::format {

FileWriter::FileWriter(Header header, Sink sink, Monitor& monitor)
    : header_(std::move(header)), sink_(std::move(sink)), monitor_(monitor) {
  header_.section_crcs.clear();
}

void FileWriter::append(SectionKind kind, std::span<const std::byte> bytes) {
  if (next_ == header_.layout.sections.size() || section().kind != kind ||
      bytes.size() > section().length - written_) {
    throw std::logic_error(std::string("section ") + name_of(kind) + " written out of order");
  }
  if (kind == SectionKind::nodes || kind == SectionKind::fulls) {
    for (size_t page = 0; page < bytes.size(); page += kPageBytes) {
      sums_.push_back(page_sum(bytes.data() + page, sums_.size()));
    }
  }
  write(bytes);
}

void FileWriter::write(std::span<const std::byte> bytes) {
  for (size_t begin = 0; begin < bytes.size(); begin += kBlockBytes) {
    const auto block = bytes.subspan(begin, std::min(kBlockBytes, bytes.size() - begin));
    monitor_.check();
    crc_ = crc32c(block.data(), block.size(), crc_);
    sink_(section().offset + written_, block.data(), block.size());
    written_ += block.size();
    monitor_.advance(block.size());
  }
  if (written_ == section().length) end_section();
}

void FileWriter::end_section() {
  static constexpr std::array<std::byte, kAlignment> kZeros{};
  const uint64_t padding = round_up(written_, kAlignment) - written_;
  if (padding > 0) sink_(section().offset + written_, kZeros.data(), padding);
  header_.section_crcs.push_back(crc_);
  crc_ = 0;
  written_ = 0;
  if (++next_ == header_.layout.sections.size()) return;
  if (section().kind == SectionKind::sums) write(std::as_bytes(std::span(sums_)));
}

void FileWriter::finish() {
  if (next_ != header_.layout.sections.size()) {
    throw std::logic_error(std::string("section ") + name_of(section().kind) + " is not complete");
  }
  const RawHeader raw = encode_header(header_);
  sink_(0, &raw, sizeof raw);
  monitor_.check_now();
}

}  // namespace bigrain::format
