// SPDX-License-Identifier: Apache-2.0
// Adjacency under construction: fixed-stride rows, padded with the vertex's own id, and degrees.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "search/greedy.h"
#include "util/buffer.h"

namespace bigrain::graph {

// Rows wherever they lie.
class RowStore {
 public:
  virtual ~RowStore() = default;
  virtual size_t stride() const = 0;
  // Without the padding.
  virtual void read(uint32_t id, std::vector<uint32_t>& row) const = 0;
  virtual void assign(uint32_t id, std::span<const uint32_t> neighbours) = 0;
};

class Rows {
 public:
  Rows(size_t count, size_t stride)
      : count_(count), stride_(stride), ids_(count * stride * sizeof(uint32_t)), degrees_(count) {
    for (size_t i = 0; i < count; ++i) assign(static_cast<uint32_t>(i), {});
  }

  size_t count() const { return count_; }
  size_t stride() const { return stride_; }
  search::GraphView view() const { return {ids_.as<uint32_t>().data(), stride_, count_}; }

  std::span<const uint32_t> row(uint32_t id) const {
    return ids_.as<uint32_t>().subspan(size_t{id} * stride_, degrees_[id]);
  }
  // `neighbours` has at most stride() ids and is no part of the rows.
  void assign(uint32_t id, std::span<const uint32_t> neighbours) {
    uint32_t* row = ids_.as<uint32_t>().data() + size_t{id} * stride_;
    uint32_t* end = std::copy(neighbours.begin(), neighbours.end(), row);
    std::fill(end, row + stride_, id);
    degrees_[id] = static_cast<uint16_t>(neighbours.size());
  }
  void append(uint32_t id, uint32_t neighbour) {
    ids_.as<uint32_t>()[size_t{id} * stride_ + degrees_[id]++] = neighbour;
  }
  void replace(uint32_t id, size_t position, uint32_t neighbour) {
    ids_.as<uint32_t>()[size_t{id} * stride_ + position] = neighbour;
  }
  Buffer take() && { return std::move(ids_); }

 private:
  size_t count_, stride_;
  Buffer ids_;
  std::vector<uint16_t> degrees_;  // at most 1.3 x kMaxDegree
};

}  // namespace bigrain::graph
