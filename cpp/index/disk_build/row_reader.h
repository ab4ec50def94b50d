// SPDX-License-Identifier: Apache-2.0
// Rows of a vector file, a block at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bigrain/build_to.h"
#include "io/file.h"
#include "util/buffer.h"

namespace bigrain::disk_build {

class RowReader {
 public:
  // Throws Error(invalid_argument) where the file is shorter than `vectors` says.
  RowReader(io::FileSystem& files, const VectorFile& vectors);

  const VectorFile& vectors() const { return vectors_; }
  size_t row_bytes() const { return vectors_.dim * item_size(vectors_.dtype); }
  // to: `count` rows of row_bytes() each. Any thread, but one at a time.
  void read(uint64_t first, size_t count, std::byte* to);

 private:
  VectorFile vectors_;
  io::File file_;
  Buffer raw_;  // rows with what stands between them
};

}  // namespace bigrain::disk_build
