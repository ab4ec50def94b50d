// SPDX-License-Identifier: Apache-2.0
#include "format/point_file.h"

#include <utility>

#include "bigrain/error.h"
#include "io/file.h"

namespace bigrain::format {

PointFile::PointFile(std::string path, const NodeShape& shape, uint64_t nodes_offset,
                     uint64_t fulls_offset, Buffer sums)
    : path_(std::move(path)),
      shape_(shape),
      nodes_offset_(nodes_offset),
      fulls_offset_(fulls_offset),
      sums_(std::move(sums)) {}

PagePlace PointFile::node(uint64_t point) const {
  return {shape_.nodes.page_of(point), shape_.nodes.pages_each, shape_.nodes.offset_of(point)};
}

PagePlace PointFile::full(uint64_t point) const {
  return {shape_.nodes.pages() + shape_.fulls.page_of(point), shape_.fulls.pages_each,
          shape_.fulls.offset_of(point)};
}

uint64_t PointFile::offset_of(uint64_t page) const {
  const uint64_t nodes = shape_.nodes.pages();
  return page < nodes ? nodes_offset_ + page * kPageBytes
                      : fulls_offset_ + (page - nodes) * kPageBytes;
}

io::BlockRead PointFile::read_of(const PagePlace& place, std::byte* to, uint64_t tag) const {
  return {.offset = offset_of(place.page), .bytes = place.bytes(), .to = to, .tag = tag};
}

void PointFile::check(const PagePlace& place, const std::byte* pages, int32_t result) const {
  if (result < 0) throw io::io_error(-result, "read", path_);
  if (static_cast<uint32_t>(result) < place.bytes()) {
    throw Error::corrupt("'" + path_ + "': the file was truncated at " +
                         std::to_string(offset_of(place.page) + static_cast<uint32_t>(result)) +
                         " bytes while it was open");
  }
  const auto sums = sums_.as<uint32_t>();
  for (uint32_t i = 0; i < place.pages; ++i) {
    if (page_sum(pages + i * kPageBytes, place.page + i) == sums[place.page + i]) continue;
    throw Error::corrupt("'" + path_ + "': page " + std::to_string(place.page + i) +
                         " of the points: the checksum is wrong: the file is damaged");
  }
}

}  // namespace bigrain::format
