// SPDX-License-Identifier: Apache-2.0
// Writes an index file front to back, so that an index need not be in memory to be written.
// Sections are checksummed while they pass and the header, which holds the checksums, comes last.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "format/header.h"
#include "format/layout.h"
#include "util/monitor.h"

namespace bigrain::format {

// Large enough for full disk speed, small enough to notice Ctrl-C on a slow disk.
inline constexpr size_t kBlockBytes = size_t{8} << 20;

// Where the bytes of a file go.
using Sink = std::function<void(uint64_t offset, const void* from, size_t bytes)>;

class FileWriter {
 public:
  // `header`: meta data and the layout that follows from it. Advances the monitor by the bytes of
  // sections, whose sum the caller has started it with.
  FileWriter(Header header, Sink sink, Monitor& monitor);

  // The next bytes of a section. Sections come in the order of the layout and are complete before
  // the next begins; nodes and fulls come in whole pages. `sums` is written by itself.
  void append(SectionKind kind, std::span<const std::byte> bytes);
  // After the last section: writes the header.
  void finish();

 private:
  const Section& section() const { return header_.layout.sections[next_]; }
  void write(std::span<const std::byte> bytes);
  void end_section();

  Header header_;
  Sink sink_;
  Monitor& monitor_;
  std::vector<uint32_t> sums_;
  size_t next_ = 0;       // the section under way
  uint64_t written_ = 0;  // bytes of it
  uint32_t crc_ = 0;      // of them
};

}  // namespace bigrain::format
