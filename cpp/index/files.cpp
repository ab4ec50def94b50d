// SPDX-License-Identifier: Apache-2.0
// Index in and out of files and bytes.
#include "bigrain/index.h"
#include "format/index_file.h"
#include "io/file_system.h"

namespace bigrain {

Index Index::open(const std::string& path, Verify verify, Monitor& monitor) {
  return Index(format::open(io::posix(), path, verify, monitor));
}

Index Index::from_bytes(std::span<const std::byte> bytes, Verify verify, Monitor& monitor) {
  return Index(format::parse(bytes, verify, monitor));
}

uint64_t Index::save(const std::string& path, Monitor& monitor) const {
  return format::save(*parts_, io::posix(), path, monitor);
}

std::vector<std::byte> Index::to_bytes() const { return format::serialize(*parts_); }

}  // namespace bigrain
