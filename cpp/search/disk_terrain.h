// SPDX-License-Identifier: Apache-2.0
// What all searches of an index on an SSD share: what is in memory, and where the rest lies.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "format/header.h"
#include "format/parts.h"
#include "quant/pq_query.h"
#include "search/hot_rows.h"
#include "search/page_reader.h"

namespace bigrain::search {

struct DiskTerrain {
  // `parts` is borrowed and has PQ codes, sums and what they need. Throws Error(corrupt) where
  // array lengths contradict the meta data, Error(invalid_argument) where there are no PQ codes.
  DiskTerrain(const IndexParts& parts, const RecordFile& file);

  // Bytes in memory beside the parts.
  size_t memory() const;
  const uint8_t* codes() const { return parts.pq_codes.as<uint8_t>().data(); }

  const IndexParts& parts;
  RecordFile file;
  quant::PqSpace space;
  std::vector<uint32_t> entries;
  HotRows hot;
};

// What the header of a file says about its records; `sums` is borrowed.
RecordFile records_of(const format::Header& header, std::span<const uint32_t> sums);

// Where walks begin: sqrt(n) points, evenly over their numbers; at most kMostEntries.
inline constexpr uint64_t kMostEntries = 4096;
std::vector<uint32_t> disk_entries(uint64_t count);

// Reads the rows of the first of parts.hot, as many as fit into `bytes`, into terrain.hot.
void load_hot_rows(DiskTerrain& terrain, uint64_t bytes, PageReader& reader);

}  // namespace bigrain::search
