// SPDX-License-Identifier: Apache-2.0
#include "index/disk_build/row_reader.h"

#include <cstring>
#include <string>

namespace bigrain::disk_build {

namespace {

void check(const VectorFile& vectors, uint64_t row_bytes, uint64_t size) {
  uint64_t span = 0;
  if (vectors.row_stride >= row_bytes &&
      !__builtin_mul_overflow(vectors.row_stride, vectors.rows, &span) &&
      !__builtin_add_overflow(span, vectors.offset, &span) &&
      // What stands behind the last row need not be there.
      (vectors.rows == 0 || span - (vectors.row_stride - row_bytes) <= size)) {
    return;
  }
  throw Error::invalid("vectors: '" + vectors.path + "' has " + std::to_string(size) +
                       " bytes, too few for " + std::to_string(vectors.rows) + " rows of " +
                       std::to_string(vectors.row_stride) + " bytes from byte " +
                       std::to_string(vectors.offset) + " on; was it cut off, or written to?");
}

}  // namespace

RowReader::RowReader(io::FileSystem& files, const VectorFile& vectors)
    : vectors_(vectors), file_(io::File::open(files, vectors.path)) {
  check(vectors_, row_bytes(), file_.info().size);
}

void RowReader::read(uint64_t first, size_t count, std::byte* to) {
  const size_t row = row_bytes(), stride = vectors_.row_stride;
  if (count == 0) return;
  const bool dense = row == stride;
  const size_t bytes = (count - 1) * stride + row;
  if (!dense && raw_.size() < bytes) raw_ = Buffer(bytes);
  std::byte* const raw = dense ? to : raw_.data();
  if (file_.read(vectors_.offset + first * stride, raw, bytes) != bytes) {
    throw Error::invalid("vectors: '" + vectors_.path + "' has become shorter meanwhile");
  }
  if (dense) return;
  for (size_t i = 0; i < count; ++i) std::memcpy(to + i * row, raw + i * stride, row);
}

}  // namespace bigrain::disk_build
