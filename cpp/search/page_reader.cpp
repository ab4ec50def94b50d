// SPDX-License-Identifier: Apache-2.0
#include "search/page_reader.h"

#include <algorithm>
#include <numeric>

namespace bigrain::search {

PageReader::PageReader(const format::PointFile& points, io::ReaderPool& readers, size_t slots)
    : points_(points),
      slot_bytes_(std::max(points.node(0).bytes(), points.vector(0).bytes())),
      slots_(slots),
      free_(slots),
      done_(slots),
      reader_(readers.borrow(slots, slots * slot_bytes_)) {
  std::iota(free_.rbegin(), free_.rend(), 0u);
}

uint32_t PageReader::ask(RecordKind kind, uint32_t point, uint32_t owner) {
  const uint32_t slot = free_.back();
  free_.pop_back();
  slots_[slot] = {kind == RecordKind::node ? points_.node(point) : points_.vector(point), owner};
  asked_.push_back(points_.read_of(slots_[slot].place, at(slot), slot));
  return slot;
}

void PageReader::send() {
  if (asked_.empty()) return;
  reader_->submit(asked_);
  asked_.clear();
}

std::span<const uint32_t> PageReader::wait() {
  arrived_.clear();
  const size_t count = reader_->wait(done_);
  for (size_t i = 0; i < count; ++i) {
    const auto slot = static_cast<uint32_t>(done_[i].tag);
    points_.check(slots_[slot].place, at(slot), done_[i].result);
    arrived_.push_back(slot);
  }
  return arrived_;
}

}  // namespace bigrain::search
