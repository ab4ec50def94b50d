// SPDX-License-Identifier: Apache-2.0
#include "io/bucket_file.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "util/crc32c.h"

namespace bigrain::io {

namespace {

// Past this a larger extent does not read any faster.
constexpr size_t kMostExtentBytes = size_t{1} << 20;

struct Footer {
  uint64_t buckets, record_bytes, extent_records, extents;
  uint32_t directory_crc;
  uint32_t own_crc;
};
static_assert(sizeof(Footer) == 40);

uint32_t crc_of(const Footer& footer) { return crc32c(&footer, offsetof(Footer, own_crc)); }

}  // namespace

BucketShape bucket_shape(size_t buckets, size_t record_bytes, size_t memory) {
  const size_t bytes = std::min(memory / std::max<size_t>(buckets, 1), kMostExtentBytes);
  return {buckets, record_bytes, std::max<size_t>(bytes / record_bytes, 1)};
}

BucketWriter::BucketWriter(File file, const BucketShape& shape)
    : file_(std::move(file)),
      shape_(shape),
      buffers_(shape.buckets * shape.extent_bytes()),
      counts_(shape.buckets) {}

void BucketWriter::append(size_t bucket, const void* record) {
  const size_t at = counts_[bucket]++ % shape_.extent_records;
  std::memcpy(buffers_.data() + bucket * shape_.extent_bytes() + at * shape_.record_bytes, record,
              shape_.record_bytes);
  if (at + 1 == shape_.extent_records) flush(bucket, shape_.extent_records);
}

void BucketWriter::flush(size_t bucket, size_t records) {
  file_.write(owners_.size() * shape_.extent_bytes(),
              buffers_.data() + bucket * shape_.extent_bytes(), records * shape_.record_bytes);
  owners_.push_back(static_cast<uint32_t>(bucket));
}

void BucketWriter::finish() {
  for (size_t bucket = 0; bucket < shape_.buckets; ++bucket) {
    const size_t left = counts_[bucket] % shape_.extent_records;
    if (left != 0) flush(bucket, left);
  }
  const size_t counts_bytes = counts_.size() * sizeof(uint64_t);
  const size_t owners_bytes = owners_.size() * sizeof(uint32_t);
  Footer footer{shape_.buckets, shape_.record_bytes, shape_.extent_records, owners_.size(), 0, 0};
  footer.directory_crc = crc32c(owners_.data(), owners_bytes, crc32c(counts_.data(), counts_bytes));
  footer.own_crc = crc_of(footer);
  const uint64_t end = owners_.size() * shape_.extent_bytes();
  file_.write(end, counts_.data(), counts_bytes);
  file_.write(end + counts_bytes, owners_.data(), owners_bytes);
  file_.write(end + counts_bytes + owners_bytes, &footer, sizeof footer);
  file_.sync();
}

BucketReader::BucketReader(File file) : file_(std::move(file)) {
  const uint64_t size = file_.info().size;
  const auto damaged = [&] {
    return Error::corrupt("'" + file_.path() + "' is damaged; remove the work folder");
  };
  Footer footer{};
  if (size < sizeof footer) throw damaged();
  file_.read(size - sizeof footer, &footer, sizeof footer);
  if (footer.own_crc != crc_of(footer)) throw damaged();
  shape_ = {footer.buckets, footer.record_bytes, footer.extent_records};
  counts_.resize(footer.buckets);
  std::vector<uint32_t> owners(footer.extents);
  const size_t counts_bytes = counts_.size() * sizeof(uint64_t);
  const size_t owners_bytes = owners.size() * sizeof(uint32_t);
  const uint64_t end = footer.extents * shape_.extent_bytes();
  if (size != end + counts_bytes + owners_bytes + sizeof footer) throw damaged();
  file_.read(end, counts_.data(), counts_bytes);
  file_.read(end + counts_bytes, owners.data(), owners_bytes);
  if (footer.directory_crc !=
      crc32c(owners.data(), owners_bytes, crc32c(counts_.data(), counts_bytes))) {
    throw damaged();
  }
  starts_.assign(footer.buckets + 1, 0);
  for (const uint32_t owner : owners) ++starts_[owner + 1];
  for (size_t i = 0; i < footer.buckets; ++i) starts_[i + 1] += starts_[i];
  places_.resize(owners.size());
  std::vector<size_t> next(starts_.begin(), starts_.end() - 1);
  for (size_t i = 0; i < owners.size(); ++i) {
    places_[next[owners[i]]++] = static_cast<uint32_t>(i);
  }
}

size_t BucketReader::extent_count(size_t bucket, size_t extent) const {
  return std::min<uint64_t>(shape_.extent_records,
                            counts_[bucket] - uint64_t{extent} * shape_.extent_records);
}

void BucketReader::read_extent(size_t bucket, size_t extent, void* to) const {
  const size_t bytes = extent_count(bucket, extent) * shape_.record_bytes;
  if (file_.read(offset_of(bucket, extent), to, bytes) != bytes) {
    throw Error::corrupt("'" + file_.path() + "' ends too early");
  }
}

void BucketReader::read_record(size_t bucket, uint64_t number, void* to) const {
  const uint64_t offset = offset_of(bucket, number / shape_.extent_records) +
                          number % shape_.extent_records * shape_.record_bytes;
  if (file_.read(offset, to, shape_.record_bytes) != shape_.record_bytes) {
    throw Error::corrupt("'" + file_.path() + "' ends too early");
  }
}

}  // namespace bigrain::io
