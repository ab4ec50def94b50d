// SPDX-License-Identifier: Apache-2.0
#include "format/nodes.h"

#include <algorithm>
#include <cstring>

#include "util/crc32c.h"

namespace bigrain::format {

namespace {

constexpr uint32_t kRecordAlignment = 4;  // of rows and float32 vectors

constexpr uint32_t pages_for(uint64_t bytes) {
  return static_cast<uint32_t>((bytes + kPageBytes - 1) / kPageBytes);
}

RecordShape records_of(uint64_t count, uint64_t bytes) {
  const auto size =
      static_cast<uint32_t>((bytes + kRecordAlignment - 1) / kRecordAlignment * kRecordAlignment);
  return {.count = count,
          .bytes = size,
          .per_page = std::max<uint32_t>(1, static_cast<uint32_t>(kPageBytes / size)),
          .pages_each = pages_for(size)};
}

// visit(record, its number) for every record that begins in the pages.
template <class Byte, class Visit>
void for_each_record(const RecordShape& shape, std::span<Byte> pages, uint64_t first, Visit visit) {
  const size_t step = shape.pages_each * kPageBytes;
  uint64_t record = first / shape.pages_each * shape.per_page;
  for (size_t page = 0; page + step <= pages.size(); page += step) {
    for (uint32_t i = 0; i < shape.per_page && record < shape.count; ++i, ++record) {
      visit(pages.data() + page + size_t{i} * shape.bytes, record);
    }
  }
}

// Whether all bytes that belong to no record are zero.
bool is_padded(const RecordShape& shape, std::span<const std::byte> pages, uint64_t first) {
  const size_t step = shape.pages_each * kPageBytes;
  uint64_t record = first / shape.pages_each * shape.per_page;
  for (size_t page = 0; page + step <= pages.size(); page += step) {
    const uint64_t here =
        record < shape.count ? std::min<uint64_t>(shape.per_page, shape.count - record) : 0;
    const auto rest = pages.subspan(page, step).subspan(here * shape.bytes);
    record += here;
    if (std::any_of(rest.begin(), rest.end(), [](std::byte b) { return b != std::byte{0}; })) {
      return false;
    }
  }
  return true;
}

// Bytes of a record between its last field and its end.
bool is_zero(const std::byte* begin, const std::byte* end) {
  return std::all_of(begin, end, [](std::byte b) { return b == std::byte{0}; });
}

void copy_in(Buffer& to, size_t offset, const std::byte* from, size_t bytes) {
  if (to.size() != 0) std::memcpy(to.data() + offset, from, bytes);
}

}  // namespace

NodeShape node_shape(const IndexMeta& meta, bool has_ids) {
  NodeShape shape;
  shape.has_ids = has_ids;
  shape.row_bytes = meta.degree * static_cast<uint32_t>(sizeof(uint32_t));
  shape.id_offset = shape.row_bytes;
  shape.vector_bytes = meta.dim * static_cast<uint32_t>(item_size(meta.dtype));
  const uint32_t whole = shape.point_bytes(), head = whole - shape.vector_bytes;
  shape.coupled = pages_for(whole) == pages_for(shape.vector_bytes);
  shape.vector_offset = shape.coupled ? head : 0;
  shape.nodes = records_of(meta.count, shape.coupled ? whole : head);
  if (!shape.coupled) shape.fulls = records_of(meta.count, shape.vector_bytes);
  return shape;
}

uint32_t page_sum(const std::byte* page, uint64_t number) {
  return crc32c(page, kPageBytes, crc32c(&number, sizeof number));
}

void pack_nodes(const NodeShape& shape, const IndexParts& parts, uint64_t first,
                std::span<std::byte> out) {
  std::fill(out.begin(), out.end(), std::byte{0});
  for_each_record(shape.nodes, out, first, [&](std::byte* record, uint64_t i) {
    std::memcpy(record, parts.graph.data() + i * shape.row_bytes, shape.row_bytes);
    if (shape.has_ids) {
      std::memcpy(record + shape.id_offset, parts.ids.data() + i * sizeof(int64_t),
                  sizeof(int64_t));
    }
    if (shape.coupled) {
      std::memcpy(record + shape.vector_offset, parts.vectors.data() + i * shape.vector_bytes,
                  shape.vector_bytes);
    }
  });
}

void pack_fulls(const NodeShape& shape, const IndexParts& parts, uint64_t first,
                std::span<std::byte> out) {
  std::fill(out.begin(), out.end(), std::byte{0});
  for_each_record(shape.fulls, out, first, [&](std::byte* record, uint64_t i) {
    std::memcpy(record, parts.vectors.data() + i * shape.vector_bytes, shape.vector_bytes);
  });
}

bool unpack_nodes(const NodeShape& shape, std::span<const std::byte> pages, uint64_t first,
                  IndexParts& parts) {
  const uint32_t used = shape.coupled
                            ? shape.vector_offset + shape.vector_bytes
                            : shape.id_offset + (shape.has_ids ? uint32_t{sizeof(int64_t)} : 0);
  bool clean = is_padded(shape.nodes, pages, first);
  for_each_record(shape.nodes, pages, first, [&](const std::byte* record, uint64_t i) {
    copy_in(parts.graph, i * shape.row_bytes, record, shape.row_bytes);
    if (shape.has_ids) {
      copy_in(parts.ids, i * sizeof(int64_t), record + shape.id_offset, sizeof(int64_t));
    }
    if (shape.coupled) {
      copy_in(parts.vectors, i * shape.vector_bytes, record + shape.vector_offset,
              shape.vector_bytes);
    }
    clean = clean && is_zero(record + used, record + shape.nodes.bytes);
  });
  return clean;
}

bool unpack_fulls(const NodeShape& shape, std::span<const std::byte> pages, uint64_t first,
                  IndexParts& parts) {
  bool clean = is_padded(shape.fulls, pages, first);
  for_each_record(shape.fulls, pages, first, [&](const std::byte* record, uint64_t i) {
    copy_in(parts.vectors, i * shape.vector_bytes, record, shape.vector_bytes);
    clean = clean && is_zero(record + shape.vector_bytes, record + shape.fulls.bytes);
  });
  return clean;
}

}  // namespace bigrain::format
