// SPDX-License-Identifier: Apache-2.0
// The rows of some points in memory, so that searches need not read them: adjacency is worth more
// than vectors there (Gorgeous, arXiv 2508.15290). Where all rows are in memory, vectors of some
// points, as so many words: nothing here depends on what they say.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace bigrain::search {

class HotRows {
 public:
  HotRows() = default;
  // Room for the rows of `points`, distinct, of `degree` ids each; rows are filled in by set().
  HotRows(std::span<const uint32_t> points, size_t degree, bool has_ids);

  size_t size() const { return points_.size(); }
  size_t memory() const;
  // Bytes per point, at most, for a budget: the table is between a quarter and half full.
  static constexpr uint64_t bytes_each(uint64_t row_bytes, bool has_ids) {
    return row_bytes + (has_ids ? sizeof(int64_t) : 0) + 5 * sizeof(uint32_t);
  }

  std::span<const uint32_t> points() const { return points_; }
  void set(size_t i, const uint32_t* row, int64_t external);

  // The place of a point, or kNone.
  static constexpr size_t kNone = ~size_t{0};
  size_t find(uint32_t id) const {
    if (slots_.empty()) return kNone;
    for (size_t at = home_of(id);; at = (at + 1) & (slots_.size() - 1)) {
      const uint32_t slot = slots_[at];
      if (slot == kEmpty) return kNone;
      if (points_[slot] == id) return slot;
    }
  }
  const uint32_t* row(size_t i) const { return rows_.data() + i * degree_; }
  int64_t external(size_t i) const {
    return externals_.empty() ? int64_t{points_[i]} : externals_[i];
  }

 private:
  static constexpr uint32_t kEmpty = 0xffffffffu;

  size_t home_of(uint32_t id) const {
    return (id * 0x9e3779b97f4a7c15u) >> shift_;  // as search/visited.h
  }

  size_t degree_ = 0;
  uint32_t shift_ = 64;
  std::vector<uint32_t> points_, slots_, rows_;
  std::vector<int64_t> externals_;
};

}  // namespace bigrain::search
