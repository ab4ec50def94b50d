// SPDX-License-Identifier: Apache-2.0
// Index files (docs/format.md): one writer, one reader, one validator.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bigrain/params.h"
#include "format/parts.h"
#include "io/file_system.h"
#include "util/monitor.h"

namespace bigrain::format {

// Atomic replacement of `path` (io/atomic_save.h). Returns the bytes written.
uint64_t save(const IndexParts& parts, io::FileSystem& files, const std::string& path,
              Monitor& monitor);
// The same bytes as save() writes.
std::vector<std::byte> serialize(const IndexParts& parts);

// Both throw Error(corrupt) naming the section at fault; open also Error(io). No allocation exceeds
// what the real size of the file warrants.
std::unique_ptr<IndexParts> open(io::FileSystem& files, const std::string& path, Verify verify,
                                 Monitor& monitor);
std::unique_ptr<IndexParts> parse(std::span<const std::byte> bytes, Verify verify,
                                  Monitor& monitor);

// What the header of the file at `path` says, as JSON (for `bigrain info`); reads 4 KiB.
std::string describe(io::FileSystem& files, const std::string& path);

}  // namespace bigrain::format
