// SPDX-License-Identifier: Apache-2.0
#include "search/hot_rows.h"

#include <algorithm>
#include <bit>

namespace bigrain::search {

HotRows::HotRows(std::span<const uint32_t> points, size_t degree, bool has_ids)
    : degree_(degree), points_(points.begin(), points.end()), rows_(points.size() * degree) {
  if (points.empty()) return;
  if (has_ids) externals_.resize(points.size());
  slots_.assign(std::bit_ceil(2 * points.size()), kEmpty);
  shift_ = 64 - static_cast<uint32_t>(std::countr_zero(slots_.size()));
  for (size_t i = 0; i < points_.size(); ++i) {
    std::fill_n(rows_.begin() + static_cast<ptrdiff_t>(i * degree_), degree_, points_[i]);
    size_t at = home_of(points_[i]);
    while (slots_[at] != kEmpty) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = static_cast<uint32_t>(i);
  }
}

size_t HotRows::memory() const {
  return (points_.size() + slots_.size() + rows_.size()) * sizeof(uint32_t) +
         externals_.size() * sizeof(int64_t);
}

void HotRows::set(size_t i, const uint32_t* row, int64_t external) {
  std::copy_n(row, degree_, rows_.begin() + static_cast<ptrdiff_t>(i * degree_));
  if (!externals_.empty()) externals_[i] = external;
}

}  // namespace bigrain::search
