// SPDX-License-Identifier: Apache-2.0
// Index files (docs/format.md): one writer, one reader, one validator.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bigrain/params.h"
#include "format/parts.h"
#include "io/file_system.h"
#include "util/monitor.h"

namespace bigrain::format {

// Encodes rows `first` to `first` + codes.size() / pq_bytes into PQ codes, for indexes that do not
// hold them.
using PqEncoder = std::function<void(uint64_t first, std::span<std::byte> codes)>;

// Which of the large parts are held in memory; the small ones always are, and where everything
// else is, PQ codes that were given.
struct Keep {
  bool graph = true, vectors = true, ids = true, codes = true;
  bool pq_codes = false, sums = false;  // for pages read later

  bool everything() const { return graph && vectors && ids && codes; }
};

// Atomic replacement of `path` (io/atomic_save.h). Returns the bytes written.
uint64_t save(const IndexParts& parts, io::FileSystem& files, const std::string& path,
              Monitor& monitor, const PqEncoder& encode = {});
// The same bytes as save() writes.
std::vector<std::byte> serialize(const IndexParts& parts, const PqEncoder& encode = {});

// `verify` full reads and checks the whole file; header checks what is kept, unless that is all of
// it. Both throw Error(corrupt) naming the section at fault; open also Error(io). No allocation
// exceeds what the real size of the file warrants.
std::unique_ptr<IndexParts> open(io::FileSystem& files, const std::string& path, Verify verify,
                                 Monitor& monitor, const Keep& keep = {});
std::unique_ptr<IndexParts> parse(std::span<const std::byte> bytes, Verify verify,
                                  Monitor& monitor);

// What the header of the file at `path` says, as JSON (for `bigrain info`); reads 4 KiB.
std::string describe(io::FileSystem& files, const std::string& path);

}  // namespace bigrain::format
