// SPDX-License-Identifier: Apache-2.0
// What all searches of an index on an SSD share: what is in memory, and where the rest lies.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "format/parts.h"
#include "format/point_file.h"
#include "quant/pq_query.h"
#include "search/hot_rows.h"
#include "search/page_reader.h"

namespace bigrain::search {

struct DiskTerrain {
  // Both are borrowed; `parts` has PQ codes. Throws Error(corrupt) where lengths of arrays
  // contradict the meta data.
  DiskTerrain(const IndexParts& parts, const format::PointFile& points);

  // Bytes in memory beside the parts.
  size_t memory() const;
  const uint8_t* codes() const { return parts.pq_codes.as<uint8_t>().data(); }

  const IndexParts& parts;
  const format::PointFile& points;
  quant::PqSpace space;
  std::vector<uint32_t> entries;
  HotRows hot;
};

// Pages under way per thread.
inline constexpr uint32_t kPagesUnderWay = 32;

// Where walks begin: sqrt(n) points, evenly over their numbers; at most kMostEntries.
inline constexpr uint64_t kMostEntries = 4096;
std::vector<uint32_t> disk_entries(uint64_t count);

// As many points as fit: those of section hot first, then others; ascending. Throws Error(corrupt)
// where the section names points that there are not.
std::vector<uint32_t> hottest_points(const IndexParts& parts, uint64_t most);

// What a record kept in memory takes: `words` of it, from byte `from` on.
struct HotPart {
  RecordKind kind;
  uint32_t from, words;
  bool has_ids;
};
HotPart hot_row(const format::NodeShape& shape);
HotPart hot_vector(const format::NodeShape& shape);

// Reads that part of the records of `points`, which are ascending.
HotRows load_hot(const format::PointFile& file, std::span<const uint32_t> points,
                 const HotPart& part, PageReader& reader);

}  // namespace bigrain::search
