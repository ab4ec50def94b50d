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

// `points`, ascending, and the least other numbers, up to `most` in all.
std::vector<uint32_t> filled_up(const std::vector<uint32_t>& points, const IndexParts& parts,
                                uint64_t most) {
  const uint64_t wanted = std::min(most, parts.meta.count);
  std::vector<uint32_t> all;
  all.reserve(std::max<uint64_t>(wanted, points.size()));
  uint64_t others = wanted > points.size() ? wanted - points.size() : 0;
  uint32_t next = 0;
  const auto take_others_below = [&](uint64_t end) {
    for (; others > 0 && next < end; --others) all.push_back(next++);
  };
  for (const uint32_t point : points) {
    take_others_below(point);
    all.push_back(point);
    next = point + 1;
  }
  take_others_below(parts.meta.count);
  return all;
}

}  // namespace

std::vector<uint32_t> hottest_points(const IndexParts& parts, uint64_t most) {
  const std::span<const uint32_t> hot = parts.hot.as<uint32_t>();
  std::vector<uint32_t> points(
      hot.begin(), hot.begin() + static_cast<ptrdiff_t>(std::min<uint64_t>(most, hot.size())));
  std::sort(points.begin(), points.end());
  points.erase(std::unique(points.begin(), points.end()), points.end());
  if (points.empty() || points.back() < parts.meta.count) return filled_up(points, parts, most);
  throw Error::corrupt("section hot: names point " + std::to_string(points.back()) +
                       "; expected points below " + std::to_string(parts.meta.count) +
                       "; the index is damaged, build or copy it again");
}

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

HotPart hot_row(const format::NodeShape& shape) {
  return {RecordKind::node, 0, shape.row_bytes / uint32_t{sizeof(uint32_t)}, shape.has_ids};
}

HotPart hot_vector(const format::NodeShape& shape) {
  // Records are whole words, so that the last one may be taken whole.
  const uint32_t words = (shape.vector_bytes + 3) / 4;
  return {RecordKind::vector, shape.vector_offset, words, shape.has_ids && shape.coupled};
}

HotRows load_hot(const format::PointFile& file, std::span<const uint32_t> points,
                 const HotPart& part, PageReader& reader) {
  const format::NodeShape& shape = file.shape();
  HotRows rows(points, part.words, part.has_ids);
  const auto place_of = [&](size_t i) {
    return part.kind == RecordKind::node ? file.node(points[i]) : file.vector(points[i]);
  };
  size_t asked = 0, under_way = 0;
  while (asked < points.size() || under_way > 0) {
    // Points that follow each other on a page come with one read.
    while (asked < points.size() && under_way < reader.slots()) {
      const size_t first = asked++;
      reader.ask(part.kind, points[first], static_cast<uint32_t>(first));
      while (asked < points.size() && place_of(asked).page == place_of(first).page) ++asked;
      ++under_way;
    }
    reader.send();
    for (const uint32_t slot : reader.wait()) {
      const size_t first = reader.owner(slot);
      for (size_t i = first; i < points.size() && place_of(i).page == place_of(first).page; ++i) {
        const std::byte* const record = reader.pages(slot) + place_of(i).in_page;
        int64_t external = 0;
        if (part.has_ids) std::memcpy(&external, record + shape.id_offset, sizeof external);
        rows.set(i, reinterpret_cast<const uint32_t*>(record + part.from), external);
      }
      reader.release(slot);
      --under_way;
    }
  }
  return rows;
}

}  // namespace bigrain::search
