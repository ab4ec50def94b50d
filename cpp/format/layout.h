// SPDX-License-Identifier: Apache-2.0
// Where everything in an index file lies, computed from what the index is. Writer and reader share
// it: a file is well-formed if its section table equals this computation (docs/format.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "format/parts.h"

namespace bigrain::format {

inline constexpr uint64_t kHeaderBytes = 4'096;
inline constexpr uint64_t kAlignment = 4'096;  // a page, and a sector of every disk
inline constexpr uint32_t kMaxSections = 32;
inline constexpr uint64_t kMaxTunePoints = 4'096;
inline constexpr size_t kPlainTuneBytes = 16;  // of a TunePoint without its last field, slack
inline constexpr uint64_t kMaxTrials = 64;
inline constexpr size_t kCodeConstantBytes = 8;  // float32 scale and bias, a record's end

constexpr uint64_t round_up(uint64_t value, uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}
// Bytes of the rotation's sign bits.
constexpr size_t signs_bytes(uint32_t dim) {
  return kRotationRounds * ((static_cast<size_t>(dim) + 7) / 8);
}

// Part of the format. Files have them in the order of compute_layout().
enum class SectionKind : uint32_t {
  graph = 1,
  codes = 2,
  vectors = 3,
  ids = 4,
  mean = 5,
  signs = 6,
  tuning = 7,
  scales = 8,
  projection = 9,
  trials = 10,
  nodes = 11,
  fulls = 12,
  sums = 13,
  pq_rotation = 14,
  pq_codebooks = 15,
  pq_codes = 16,
  hot = 17,
};
inline constexpr uint32_t kLastSectionKind = 17;

// How many elements the sections have that other fields do not determine.
struct OptionalCounts {
  bool ids = false;
  bool nodes = true;  // points as records in pages; false: as arrays, before format 1.2
  uint64_t hot = 0;
  uint64_t tune_points = 0;
  bool slack = false;  // tune points have it; false: before format 1.4
  uint64_t trials = 0;
};

const char* name_of(SectionKind kind);

struct Section {
  SectionKind kind;
  uint32_t element_size;
  uint64_t offset;  // from the start of the file; a multiple of kAlignment
  uint64_t length;  // bytes, without the zeros up to the next multiple
  uint64_t count;   // elements: length == element_size * count
};

struct Layout {
  std::vector<Section> sections;
  uint64_t file_length = kHeaderBytes;
  uint64_t payload = 0;  // the lengths of all sections
};

// Throws Error(corrupt) if a field is out of the range of bigrain/params.h, naming it. Nothing in
// `meta` has to be trusted beforehand, and every product below is safe afterwards.
void check_ranges(const IndexMeta& meta);

// The layout of an index with this meta data, which check_ranges() has passed. Sections without
// elements are absent.
Layout compute_layout(const IndexMeta& meta, const OptionalCounts& counts);

}  // namespace bigrain::format
