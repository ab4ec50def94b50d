// SPDX-License-Identifier: Apache-2.0
#include "search/page_reader.h"

#include <algorithm>
#include <system_error>

#include "bigrain/error.h"

namespace bigrain::search {

namespace {

const format::RecordShape& shape_of(const RecordFile& file, RecordKind kind) {
  return kind == RecordKind::node ? file.shape.nodes : file.shape.fulls;
}

}  // namespace

PageReader::PageReader(const RecordFile& file, const io::BlockFile& blocks, size_t slots)
    : file_(file),
      path_(blocks.path()),
      slot_bytes_(std::max(file.shape.nodes.pages_each, file.shape.fulls.pages_each) *
                  format::kPageBytes),
      slots_(slots),
      done_(slots) {
  if (file.sums.size() != file.shape.pages()) {
    throw Error::corrupt(path_ + ": section sums: found " + std::to_string(file.sums.size()) +
                         " checksums; expected " + std::to_string(file.shape.pages()) +
                         ", one per page");
  }
  for (size_t i = slots; i-- > 0;) free_.push_back(static_cast<uint32_t>(i));
  reader_ = blocks.make_reader(slots, slots * slot_bytes_);
}

std::byte* PageReader::at(uint32_t slot) const {
  return reader_->arena().data() + slot * slot_bytes_;
}

uint32_t PageReader::ask(RecordKind kind, uint64_t record, uint32_t owner) {
  const format::RecordShape& shape = shape_of(file_, kind);
  const uint64_t page = shape.page_of(record);
  const uint32_t slot = free_.back();
  free_.pop_back();
  const auto bytes = static_cast<uint32_t>(shape.pages_each * format::kPageBytes);
  const uint64_t before = kind == RecordKind::node ? 0 : file_.shape.nodes.pages();
  slots_[slot] = {before + page, bytes, owner, kind};
  const uint64_t section = kind == RecordKind::node ? file_.nodes_at : file_.fulls_at;
  asked_.push_back({section + page * format::kPageBytes, bytes, at(slot), slot});
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
    check(slot, done_[i].result);
    arrived_.push_back(slot);
  }
  return arrived_;
}

void PageReader::check(uint32_t slot, int32_t result) const {
  const Slot& read = slots_[slot];
  if (result < 0) {
    throw Error::io(-result, path_, place_of(read) + std::generic_category().message(-result));
  }
  if (static_cast<uint32_t>(result) != read.bytes) {
    throw Error::corrupt(place_of(read) + "the file ends after " + std::to_string(result) + " of " +
                         std::to_string(read.bytes) + " bytes; copy it again");
  }
  for (uint32_t i = 0; i * format::kPageBytes < read.bytes; ++i) {
    const uint64_t number = read.page + i;
    if (format::page_sum(at(slot) + i * format::kPageBytes, number) == file_.sums[number]) continue;
    throw Error::corrupt(place_of(read) +
                         "the checksum is wrong: the file is damaged; copy it again");
  }
}

std::string PageReader::place_of(const Slot& read) const {
  const bool node = read.kind == RecordKind::node;
  const uint64_t page = read.page - (node ? 0 : file_.shape.nodes.pages());
  return path_ + ": section " + (node ? "nodes" : "fulls") + ", page " + std::to_string(page) +
         ": ";
}

}  // namespace bigrain::search
