// SPDX-License-Identifier: Apache-2.0
#include "search/disk_terrain.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "bigrain/error.h"

namespace bigrain::search {

namespace {

const IndexParts& checked(const IndexParts& parts) {
  const IndexMeta& meta = parts.meta;
  if (parts.pq_codes.size() == meta.count * meta.pq_bytes && meta.pq_bytes != 0) return parts;
  throw Error::corrupt("section pq_codes: found " + std::to_string(parts.pq_codes.size()) +
                       " bytes; expected " + std::to_string(meta.count * meta.pq_bytes) +
                       "; the index is damaged, build or copy it again");
}

// The distinct ids of section hot, as many as fit. What a file says is compared here.
std::vector<uint32_t> hot_points(const IndexParts& parts, uint64_t most) {
  const std::span<const uint32_t> hot = parts.hot.as<uint32_t>();
  std::vector<uint32_t> points(
      hot.begin(), hot.begin() + static_cast<ptrdiff_t>(std::min<uint64_t>(most, hot.size())));
  std::sort(points.begin(), points.end());
  points.erase(std::unique(points.begin(), points.end()), points.end());
  if (points.empty() || points.back() < parts.meta.count) return points;
  throw Error::corrupt("section hot: names point " + std::to_string(points.back()) +
                       "; expected points below " + std::to_string(parts.meta.count) +
                       "; the index is damaged, build or copy it again");
}

}  // namespace

DiskTerrain::DiskTerrain(const IndexParts& all, const format::PointFile& file)
    : parts(checked(all)), points(file), space(parts), entries(disk_entries(parts.meta.count)) {}

size_t DiskTerrain::memory() const {
  return space.memory() + entries.size() * sizeof(uint32_t) + hot.memory();
}

std::vector<uint32_t> disk_entries(uint64_t count) {
  const auto root = static_cast<uint64_t>(std::ceil(std::sqrt(static_cast<double>(count))));
  const uint64_t used = std::min({root, kMostEntries, count});
  std::vector<uint32_t> entries;
  for (uint64_t i = 0; i < used; ++i) entries.push_back(static_cast<uint32_t>(i * count / used));
  return entries;
}

void load_hot_rows(DiskTerrain& terrain, uint64_t count, PageReader& reader) {
  const format::NodeShape& shape = terrain.points.shape();
  HotRows rows(hot_points(terrain.parts, count), terrain.parts.meta.degree, shape.has_ids);
  const std::span<const uint32_t> points = rows.points();
  size_t asked = 0, under_way = 0;
  while (asked < points.size() || under_way > 0) {
    for (; asked < points.size() && under_way < reader.slots(); ++asked, ++under_way)
      reader.ask(RecordKind::node, points[asked], static_cast<uint32_t>(asked));
    reader.send();
    for (const uint32_t slot : reader.wait()) {
      const size_t i = reader.owner(slot);
      const std::byte* const record = reader.pages(slot) + shape.nodes.offset_of(points[i]);
      int64_t external = 0;
      if (shape.has_ids) std::memcpy(&external, record + shape.id_offset, sizeof external);
      rows.set(i, reinterpret_cast<const uint32_t*>(record), external);
      reader.release(slot);
      --under_way;
    }
  }
  terrain.hot = std::move(rows);
}

}  // namespace bigrain::search
