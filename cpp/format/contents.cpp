// SPDX-License-Identifier: Apache-2.0
#include "format/contents.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "bigrain/error.h"
#include "bigrain/params.h"
#include "format/distinct.h"

namespace bigrain::format {

namespace {

// An orthonormal column has no entry above 1, but for rounding; centroids are no longer than rows.
constexpr float kMaxRotationEntry = 1.001f;
constexpr float kMaxCentroidEntry = 9e18f;         // its square is kMaxSquaredNorm
constexpr size_t kBytesPerPoll = size_t{1} << 20;  // well under a millisecond of checking

[[noreturn]] void fail(SectionKind kind, const std::string& what) {
  throw Error::corrupt(std::string("section ") + name_of(kind) + ": " + what);
}

// body(row) for every row, polling now and then.
template <class Body>
void for_each_row(uint64_t rows, size_t row_bytes, Monitor& monitor, Body body) {
  const uint64_t rows_per_poll = std::max<size_t>(1, kBytesPerPoll / row_bytes);
  for (uint64_t row = 0; row < rows; ++row) {
    if (row % rows_per_poll == 0) monitor.check();
    body(row);
  }
}

// Tells whether a row of the graph repeats an id. A bit per hash value settles nearly every row;
// the few with a collision are sorted. The table fits the first-level cache, and a row of
// kMaxDegree fills less than one percent of it.
class RepeatFinder {
 public:
  bool operator()(std::span<const uint32_t> ids) {
    bool suspect = false;
    for (const uint32_t id : ids) {
      uint64_t& word = seen_[slot(id) / 64];
      const uint64_t bit = uint64_t{1} << (slot(id) % 64);
      suspect |= (word & bit) != 0;
      word |= bit;
    }
    for (const uint32_t id : ids) seen_[slot(id) / 64] = 0;
    if (!suspect) return false;
    sorted_.assign(ids.begin(), ids.end());
    std::sort(sorted_.begin(), sorted_.end());
    return std::adjacent_find(sorted_.begin(), sorted_.end()) != sorted_.end();
  }

 private:
  static constexpr int kSlotBits = 16;
  // Multiplicative hashing with the golden ratio (Knuth, volume 3, section 6.4).
  static uint32_t slot(uint32_t id) { return (id * 2'654'435'769u) >> (32 - kSlotBits); }

  std::array<uint64_t, (size_t{1} << kSlotBits) / 64> seen_{};
  std::vector<uint32_t> sorted_;
};

void check_graph(const IndexParts& parts, Monitor& monitor) {
  const size_t degree = parts.meta.degree;
  const auto graph = parts.graph.as<uint32_t>();
  RepeatFinder repeats;
  for_each_row(parts.meta.count, degree * sizeof(uint32_t), monitor, [&](uint64_t vertex) {
    const auto row = graph.subspan(vertex * degree, degree);
    const auto own = static_cast<uint32_t>(vertex);
    uint32_t largest = 0;
    for (const uint32_t id : row) largest = std::max(largest, id);
    const auto where = [vertex] { return "row " + std::to_string(vertex); };
    if (largest >= parts.meta.count) {
      fail(SectionKind::graph, where() + " names vertex " + std::to_string(largest) + " of " +
                                   std::to_string(parts.meta.count));
    }
    const auto end = std::find(row.begin(), row.end(), own);
    if (std::any_of(end, row.end(), [own](uint32_t id) { return id != own; })) {
      fail(SectionKind::graph, where() + " has neighbours after its padding");
    }
    if (repeats(row.first(static_cast<size_t>(end - row.begin())))) {
      fail(SectionKind::graph, where() + " names a neighbour twice");
    }
  });
}

// Records of `dim` codes in -127..127, zeros up to the constants, and finite constants.
void check_records(SectionKind kind, const Buffer& buffer, uint32_t dim, Monitor& monitor) {
  const size_t stride = code_stride(dim);
  const auto codes = buffer.as<int8_t>();
  for_each_row(codes.size() / stride, stride, monitor, [&](uint64_t row) {
    const int8_t* record = codes.data() + row * stride;
    uint8_t forbidden = 0, padding = 0;  // bytes, so that a compiler can take 16 codes at once
    for (size_t i = 0; i < dim; ++i) forbidden |= static_cast<uint8_t>(record[i] == -128);
    for (size_t i = dim; i < stride - kCodeConstantBytes; ++i) {
      padding |= static_cast<uint8_t>(record[i]);
    }
    std::array<float, 2> constants;
    std::memcpy(constants.data(), record + stride - kCodeConstantBytes, sizeof constants);
    const bool finite = std::isfinite(constants[0]) && std::isfinite(constants[1]);
    if (forbidden == 0 && padding == 0 && finite) return;
    fail(kind, "record " + std::to_string(row) +
                   (forbidden != 0 ? " has a code of -128"
                    : padding != 0 ? " has padding that is not zero"
                                   : " has a scale or bias that is not finite"));
  });
}

// All exponent bits of a half are set in infinities and NaNs only; squares of halves always fit.
bool all_finite(std::span<const uint16_t> halves) {
  constexpr uint16_t kExponent = 0x7C00;
  uint16_t bad = 0;
  for (const uint16_t half : halves) {
    bad |= static_cast<uint16_t>((half & kExponent) == kExponent);
  }
  return bad == 0;
}

// Infinities and NaNs make the sum what they are.
double squared_norm(std::span<const float> row) {
  constexpr size_t kLanes = 8;  // independent sums, so that a compiler can use vectors
  double lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= row.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += static_cast<double>(row[i + lane]) * row[i + lane];
    }
  }
  for (; i < row.size(); ++i) lanes[0] += static_cast<double>(row[i]) * row[i];
  return std::accumulate(lanes, lanes + kLanes, 0.0);
}

void check_vectors(const IndexParts& parts, Monitor& monitor) {
  const size_t dim = parts.meta.dim;
  const auto floats = parts.vectors.as<float>();
  const auto halves = parts.vectors.as<uint16_t>();
  const Dtype dtype = parts.meta.dtype;
  if (dtype != Dtype::f32 && dtype != Dtype::f16) return;  // every integer will do
  for_each_row(parts.meta.count, dim * item_size(dtype), monitor, [&](uint64_t row) {
    const bool fine = dtype == Dtype::f32
                          ? squared_norm(floats.subspan(row * dim, dim)) <= kMaxSquaredNorm
                          : all_finite(halves.subspan(row * dim, dim));
    if (fine) return;
    fail(SectionKind::vectors,
         "row " + std::to_string(row) + " is not finite, or too long for finite distances");
  });
}

void check_ids(const IndexParts& parts, Monitor& monitor) {
  const auto ids = parts.ids.as<int64_t>();
  const auto negative = std::find_if(ids.begin(), ids.end(), [](int64_t id) { return id < 0; });
  if (negative != ids.end()) {
    fail(SectionKind::ids, "point " + std::to_string(negative - ids.begin()) +
                               " has the negative id " + std::to_string(*negative));
  }
  if (const auto repeated = find_repeated(ids, monitor)) {
    fail(SectionKind::ids, "id " + std::to_string(*repeated) + " occurs more than once");
  }
}

void check_signs(const IndexParts& parts) {
  if (parts.is_projected()) return;
  const size_t per_round = parts.signs.size() / kRotationRounds;
  const uint32_t used = parts.meta.dim % 8;
  if (used == 0) return;
  for (size_t round = 1; round <= kRotationRounds; ++round) {
    const auto last = std::to_integer<uint32_t>(parts.signs.data()[round * per_round - 1]);
    if (last >> used != 0) fail(SectionKind::signs, "bits beyond the dimension are not zero");
  }
}

void check_tuning(const IndexParts& parts) {
  for (size_t i = 0; i < parts.tuning.size(); ++i) {
    if (!parts.tuning[i].in_range(parts.meta.metric)) {
      fail(SectionKind::tuning, "point " + std::to_string(i) + " is out of range");
    }
    if (i > 0 && !ascending(parts.tuning[i - 1], parts.tuning[i])) {
      fail(SectionKind::tuning, "point " + std::to_string(i) + " is out of order");
    }
  }
}

void check_scales(const IndexParts& parts) {
  const auto usable = [](float scale) { return std::isnormal(scale) && scale > 0; };
  const auto scales = parts.scales.as<float>();
  if (std::all_of(scales.begin(), scales.end(), usable)) return;
  fail(SectionKind::scales, "they are not all positive, finite numbers");
}

void check_trials(const IndexParts& parts) {
  for (size_t i = 0; i < parts.trials.size(); ++i) {
    const CodeDimTrial& trial = parts.trials[i];
    const bool in_range = trial.code_dim >= 1 && trial.code_dim <= parts.meta.dim &&
                          std::isfinite(trial.rerank) && trial.rerank >= 0 &&
                          std::isfinite(trial.cost) && trial.cost >= 0 && trial.reserved == 0;
    const bool ascending = i == 0 || parts.trials[i - 1].code_dim < trial.code_dim;
    if (in_range && ascending) continue;
    fail(SectionKind::trials, "entry " + std::to_string(i) + " is out of range or order");
  }
}

void check_floats(SectionKind kind, const Buffer& buffer, float most) {
  const auto values = buffer.as<float>();
  if (std::all_of(values.begin(), values.end(), [most](float value) {
        return std::abs(value) <= most;  // false for NaN
      })) {
    return;
  }
  fail(kind, "a value is not finite, or above " + std::to_string(most));
}

void check_hot(const IndexParts& parts, Monitor& monitor) {
  const auto hot = parts.hot.as<uint32_t>();
  std::vector<bool> seen(parts.meta.count);
  for (size_t i = 0; i < hot.size(); ++i) {
    if (i % kBytesPerPoll == 0) monitor.check();
    if (hot[i] >= seen.size()) {
      fail(SectionKind::hot, "entry " + std::to_string(i) + " names vertex " +
                                 std::to_string(hot[i]) + " of " + std::to_string(seen.size()));
    }
    if (seen[hot[i]]) {
      fail(SectionKind::hot, "vertex " + std::to_string(hot[i]) + " occurs more than once");
    }
    seen[hot[i]] = true;
  }
}

}  // namespace

void check_section(const IndexParts& parts, SectionKind kind, Monitor& monitor) {
  switch (kind) {
    case SectionKind::graph:
      return check_graph(parts, monitor);
    case SectionKind::codes:
      return check_records(kind, parts.codes, parts.meta.code_dim, monitor);
    case SectionKind::vectors:
      return check_vectors(parts, monitor);
    case SectionKind::ids:
      return check_ids(parts, monitor);
    case SectionKind::mean:
      if (squared_norm(parts.mean.as<float>()) <= kMaxSquaredNorm) return;
      return fail(kind, "it is not finite, or too long for finite distances");
    case SectionKind::signs:
      return check_signs(parts);
    case SectionKind::tuning:
      return check_tuning(parts);
    case SectionKind::scales:
      return check_scales(parts);
    case SectionKind::projection:
      return check_records(kind, parts.projection, parts.meta.dim, monitor);
    case SectionKind::trials:
      return check_trials(parts);
    case SectionKind::pq_rotation:
      return check_floats(kind, parts.pq_rotation, kMaxRotationEntry);
    case SectionKind::pq_codebooks:
      return check_floats(kind, parts.pq_codebooks, kMaxCentroidEntry);
    case SectionKind::hot:
      return check_hot(parts, monitor);
    case SectionKind::nodes:  // checked as their parts
    case SectionKind::fulls:
    case SectionKind::sums:      // compared with the pages, when these are read
    case SectionKind::pq_codes:  // every byte names a centroid
      return;
  }
}

void check_contents(const IndexParts& parts, Monitor& monitor) {
  for (const SectionKind kind :
       {SectionKind::graph, SectionKind::codes, SectionKind::vectors, SectionKind::ids,
        SectionKind::mean, SectionKind::signs, SectionKind::scales, SectionKind::projection,
        SectionKind::tuning, SectionKind::trials, SectionKind::pq_rotation,
        SectionKind::pq_codebooks, SectionKind::hot}) {
    check_section(parts, kind, monitor);
  }
}

}  // namespace bigrain::format
