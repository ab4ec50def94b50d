// SPDX-License-Identifier: Apache-2.0
// Many lists of fixed-size records in one file, written side by side and read one by one: how data
// that does not fit into memory is put into another order.
//
// The file is a row of extents, each with records of one bucket; a bucket's extents are listed in
// the directory at the end. Writing is sequential whatever the order of the records, and needs one
// descriptor and one buffer per bucket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "io/file.h"
#include "util/buffer.h"

namespace bigrain::io {

struct BucketShape {
  size_t buckets, record_bytes, extent_records;

  size_t extent_bytes() const { return record_bytes * extent_records; }
};

// Extents as large as `memory` bytes of buffers allow; at least one record each.
BucketShape bucket_shape(size_t buckets, size_t record_bytes, size_t memory);

class BucketWriter {
 public:
  BucketWriter(File file, const BucketShape& shape);

  void append(size_t bucket, const void* record);
  uint64_t count(size_t bucket) const { return counts_[bucket]; }
  // Writes what is left and the directory; everything is on the disk afterwards.
  void finish();

 private:
  void flush(size_t bucket, size_t records);

  File file_;
  BucketShape shape_;
  Buffer buffers_;
  std::vector<uint64_t> counts_;
  std::vector<uint32_t> owners_;  // per extent: its bucket
};

class BucketReader {
 public:
  // Throws Error(corrupt) unless the file is whole.
  explicit BucketReader(File file);

  const BucketShape& shape() const { return shape_; }
  uint64_t count(size_t bucket) const { return counts_[bucket]; }
  size_t extents(size_t bucket) const { return starts_[bucket + 1] - starts_[bucket]; }
  // Records in that extent of the bucket: all but the last are full.
  size_t extent_count(size_t bucket, size_t extent) const;
  // to: room for extent_count() records. The first is number extent * extent_records.
  void read_extent(size_t bucket, size_t extent, void* to) const;
  void read_record(size_t bucket, uint64_t number, void* to) const;

 private:
  uint64_t offset_of(size_t bucket, size_t extent) const {
    return uint64_t{places_[starts_[bucket] + extent]} * shape_.extent_bytes();
  }

  File file_;
  BucketShape shape_{};
  std::vector<uint64_t> counts_;
  std::vector<uint32_t> places_;  // per extent, by bucket: its number in the file
  std::vector<size_t> starts_;    // of each bucket's in places_
};

}  // namespace bigrain::io
