// SPDX-License-Identifier: Apache-2.0
#include "quant/neighbour_blocks.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "bigrain/error.h"
#include "quant/scalar8.h"
#include "util/half.h"
#include "util/thread_pool.h"

namespace bigrain::quant {

namespace {

constexpr size_t kLine = 64, kSubBytes = 16;
constexpr size_t kFactorBytes = 2 * sizeof(uint16_t);  // per neighbour
// sqrt(1 - 2/pi), see the head of neighbour_blocks.h.
constexpr float kSpread = 0.60281028f;
constexpr uint16_t kNan = 0x7e00, kAlways = 0xfc00;  // float16
constexpr float kLargestHalf = 65504.0f;
// Vertices whose edges tell the unit. 256 rows say within a few per cent what is typical.
constexpr size_t kUnitSample = 256;
// Neither the unit nor its square leaves float32.
constexpr int kMostExponent = 60;
constexpr size_t kLanes = 8;  // independent sums: the order, and so the bits, are fixed
// Edges packed by one task: some milliseconds, so that a poll is never far.
constexpr size_t kGrainEdges = size_t{1} << 13;

size_t lines(size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

// Packs the neighbours of one vertex after the other.
class Packer {
 public:
  Packer(const IndexParts& parts, float unit)
      : parts_(parts),
        dim_(parts.meta.code_dim),
        shape_(parts.meta.degree, dim_),
        stride_(code_stride(parts.meta.code_dim)),
        centred_(parts.meta.metric != Metric::ip),
        unit_(unit),
        centre_((dim_ + kLanes - 1) / kLanes * kLanes),
        residual_(centre_.size()) {}

  void pack(uint32_t vertex, std::byte* block) {
    decode(vertex, centre_);
    const size_t degree = parts_.meta.degree;
    const uint32_t* row = parts_.graph.as<uint32_t>().data() + vertex * degree;
    bool ended = false;
    for (size_t part = 0, i = 0; part < shape_.parts(); ++part) {
      const size_t places = shape_.places(part);
      auto* halves = reinterpret_cast<uint16_t*>(block + shape_.offset(part));
      for (size_t place = 0; place < places; ++place, ++i) {
        ended = ended || i >= degree || row[i] == vertex;
        if (ended) {
          halves[place] = kNan;
          continue;
        }
        check_id(vertex, row[i]);
        pack_neighbour(row[i], halves, places, place);
      }
    }
  }

  // Squared length of every edge of `vertex`.
  void append_squares(uint32_t vertex, std::vector<float>& out) {
    decode(vertex, centre_);
    const size_t degree = parts_.meta.degree;
    const uint32_t* row = parts_.graph.as<uint32_t>().data() + vertex * degree;
    for (size_t i = 0; i < degree && row[i] != vertex; ++i) {
      check_id(vertex, row[i]);
      out.push_back(measure(row[i]).square);
    }
  }

 private:
  struct Edge {
    float square, magnitude, along;  // |r|^2, sum |r_i|, <s, v>
  };

  void check_id(uint32_t vertex, uint32_t id) const {
    if (id < parts_.meta.count) return;
    throw Error::corrupt("section graph: row " + std::to_string(vertex) + " names vertex " +
                         std::to_string(id) + "; expected ids below " +
                         std::to_string(parts_.meta.count) +
                         "; the index is damaged, build or copy it again");
  }

  void decode(uint32_t id, std::vector<float>& out) const {
    const std::byte* record = parts_.codes.data() + id * stride_;
    const float scale = constants_of(record, stride_).scale;
    const auto* codes = reinterpret_cast<const int8_t*>(record);
    for (size_t j = 0; j < dim_; ++j) out[j] = scale * static_cast<float>(codes[j]);
  }

  // Leaves r in residual_.
  Edge measure(uint32_t id) {
    decode(id, residual_);
    float squares[kLanes] = {}, magnitudes[kLanes] = {}, along[kLanes] = {};
    for (size_t j = 0; j < residual_.size(); j += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) {
        const float r = residual_[j + lane] -= centre_[j + lane];
        squares[lane] += r * r;
        magnitudes[lane] += std::fabs(r);
        along[lane] += r >= 0 ? centre_[j + lane] : -centre_[j + lane];
      }
    }
    Edge edge{};
    for (size_t lane = 0; lane < kLanes; ++lane) {
      edge.square += squares[lane];
      edge.magnitude += magnitudes[lane];
      edge.along += along[lane];
    }
    return edge;
  }

  void pack_neighbour(uint32_t id, uint16_t* halves, size_t places, size_t place) {
    const Edge edge = measure(id);
    const float factor = edge.magnitude > 0 ? 2 * edge.square / edge.magnitude : 0.0f;
    const float scaled = factor / unit_;  // exact: the unit is a power of two
    const uint16_t rounded = half_below(scaled);
    const float kept = half_to_float(rounded) * unit_;
    const float offset = centred_ ? edge.square + kept * edge.along : 0.0f;
    const bool is_cut = scaled > kLargestHalf;  // too far off to say anything
    halves[place] = is_cut ? kAlways : half_below(offset / unit_ / unit_);
    halves[places + place] = is_cut ? 0 : rounded;
    pack_signs(places, place, reinterpret_cast<uint8_t*>(halves + 2 * places));
  }

  void pack_signs(size_t places, size_t place, uint8_t* codes) const {
    const bool is_half = places == kHalfNeighbours;
    for (size_t j = 0; j < dim_; ++j) {
      const size_t bit = residual_[j] >= 0 ? 1 : 0;
      const size_t sub = j / kSubDims, lower = shape_.lower_subs();
      const bool is_high = is_half ? sub >= lower : place >= kSubBytes;
      const size_t line = is_half && is_high ? sub - lower : sub;
      uint8_t& code = codes[line * kSubBytes + place % kSubBytes];
      code = static_cast<uint8_t>(code | bit << (j % kSubDims + (is_high ? 4 : 0)));
    }
  }

  const IndexParts& parts_;
  size_t dim_;
  BlockShape shape_;
  size_t stride_;
  bool centred_;
  float unit_;
  std::vector<float> centre_, residual_;  // zeros past dim_
};

// A power of two near the typical length of an edge: the median of a sample.
float unit_of(const IndexParts& parts) {
  Packer packer(parts, 1);
  std::vector<float> squares;
  const size_t count = parts.meta.count, step = std::max<size_t>(count / kUnitSample, 1);
  for (size_t i = 0; i < count; i += step) {
    packer.append_squares(static_cast<uint32_t>(i), squares);
  }
  std::erase(squares, 0.0f);  // copies
  if (squares.empty()) return 1;
  const auto middle = squares.begin() + static_cast<std::ptrdiff_t>(squares.size() / 2);
  std::nth_element(squares.begin(), middle, squares.end());
  if (!std::isfinite(*middle)) return 1;
  return std::ldexp(1.0f, std::clamp(std::ilogb(*middle) / 2, -kMostExponent, kMostExponent));
}

}  // namespace

BlockShape::BlockShape(size_t degree, size_t dim) : subs_((dim + kSubDims - 1) / kSubDims) {
  const size_t rest = degree % kBlockNeighbours;
  full_ = degree / kBlockNeighbours + (rest > kHalfNeighbours ? 1 : 0);
  full_bytes_ = lines(kBlockNeighbours * kFactorBytes + subs_ * kSubBytes);
  if (rest >= 1 && rest <= kHalfNeighbours)
    half_bytes_ = lines(kHalfNeighbours * kFactorBytes + lower_subs() * kSubBytes);
  bytes_ = full_ * full_bytes_ + half_bytes_;
}

NeighbourBlocks::NeighbourBlocks(const IndexParts& parts, const simd::Kernels& kernels)
    : data_(parts.blocks.data()),
      shape_(parts.meta.degree, parts.meta.code_dim),
      per_unit_(1 / parts.block_unit),
      fast_scan_(kernels.fast_scan),
      gate_(kernels.gate) {}

uint32_t NeighbourBlocks::near(const SignQuery& query, uint32_t vertex, size_t part, float score,
                               float limit) const {
  const std::byte* block = data_ + vertex * shape_.bytes() + shape_.offset(part);
  const auto* halves = reinterpret_cast<const uint16_t*>(block);
  const size_t places = shape_.places(part);
  const auto* codes = reinterpret_cast<const uint8_t*>(halves + 2 * places);
  const uint8_t* table = query.table.data();
  uint32_t sums[kBlockNeighbours];
  if (places == kBlockNeighbours) {
    fast_scan_(table, codes, shape_.subs(), sums);
  } else {
    const size_t lower = shape_.lower_subs();
    uint32_t upper[kBlockNeighbours];
    fast_scan_(table, codes, lower, sums);
    fast_scan_(table + lower * kSubBytes, codes, shape_.subs() - lower, upper);
    for (size_t j = 0; j < kHalfNeighbours; ++j) sums[j] += upper[kHalfNeighbours + j];
  }
  const float squared = query.centred ? score + query.squared_norm : query.squared_norm;
  const float slack = kGateErrors * kSpread * std::sqrt(std::max(squared, 0.0f));
  return gate_(sums, halves, places,
               {query.step * per_unit_, (query.least + slack) * per_unit_,
                (limit - score) * per_unit_ * per_unit_});
}

void make_blocks(IndexParts& parts, uint32_t threads, Monitor& monitor) {
  const size_t bytes = BlockShape(parts.meta.degree, parts.meta.code_dim).bytes();
  Buffer blocks(parts.meta.count * bytes);
  const float unit = unit_of(parts);
  const size_t grain = std::max<size_t>(1, kGrainEdges / std::max(parts.meta.degree, 1u));
  monitor.start(parts.meta.count);
  parallel_for(parts.meta.count, grain, threads, monitor, [&](size_t begin, size_t end, uint32_t) {
    Packer packer(parts, unit);
    for (size_t i = begin; i < end; ++i) {
      packer.pack(static_cast<uint32_t>(i), blocks.data() + i * bytes);
    }
    monitor.advance(end - begin);
  });
  parts.blocks = std::move(blocks);
  parts.block_unit = unit;
}

}  // namespace bigrain::quant
