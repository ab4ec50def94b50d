// SPDX-License-Identifier: Apache-2.0
#include "search/disk_interleave.h"

#include <algorithm>
#include <array>

namespace bigrain::search {

namespace {

// Queries under way, and reads of each. 16 queries of some 12 reads are 190 under way: a million a
// second where each takes 190 microseconds.
constexpr size_t kSlots = 16, kReadsPerSlot = 32;
// Buffers of a thread, so that long vectors do not take more; each query has one at least.
constexpr size_t kArenaBytes = size_t{4} << 20;

// One or all, so that readers are used again by searches of other sizes.
size_t slots_for(size_t queries) { return queries == 1 ? 1 : kSlots; }

size_t reads_each(size_t slots, size_t bytes_each) {
  return std::clamp<size_t>(kArenaBytes / (slots * bytes_each), 1, kReadsPerSlot);
}

size_t reads_in_all(size_t queries, size_t bytes_each) {
  return slots_for(queries) * reads_each(slots_for(queries), bytes_each);
}

}  // namespace

DiskInterleaver::DiskInterleaver(const QuerySearch& search, const format::PointFile& points,
                                 const HotRows& hot, io::ReaderPool& readers, size_t queries)
    : search_(search),
      reader_(readers.borrow(
          reads_in_all(queries, points.vector(0).bytes()),
          reads_in_all(queries, points.vector(0).bytes()) * points.vector(0).bytes())) {
  const size_t slots = slots_for(queries), bytes_each = points.vector(0).bytes();
  const size_t each = reads_each(slots, bytes_each);
  std::byte* memory = reader_->arena().data();
  for (size_t i = 0; i < slots; ++i) {
    const ReadBuffers buffers{memory + i * each * bytes_each, bytes_each, each};
    slots_.push_back(
        std::make_unique<Slot>(search.stride(), points, hot, buffers, static_cast<uint32_t>(i)));
  }
}

void DiskInterleaver::run(const MatrixView& queries, size_t begin, size_t end,
                          const SearchOutput& output) {
  const io::DrainAtExit drain(*reader_);
  for (auto& slot : slots_) slot->state = Slot::State::idle;
  size_t next = begin, answered = begin;
  while (answered < end) {
    bool waiting = true;
    for (auto& slot : slots_) {
      if (slot->state == Slot::State::idle && next < end) {
        slot->query = next++;
        search_.start(queries.row(slot->query), slot->scratch);
        slot->state = Slot::State::walking;
      }
      if (slot->state == Slot::State::idle) continue;
      if (step(*slot, output)) ++answered;
      if (slot->state != Slot::State::reading) waiting = false;
    }
    take_answers(waiting);
  }
}

// True when the query has been answered.
bool DiskInterleaver::step(Slot& slot, const SearchOutput& output) {
  if (slot.state == Slot::State::walking) {
    if (search_.is_walking(slot.scratch)) {
      search_.step(slot.scratch);
      return false;
    }
    slot.reads.start(search_, slot.scratch);
    slot.state = Slot::State::reading;
  }
  if (!slot.reads.advance(search_, slot.scratch, *reader_)) return false;
  const size_t first = slot.query * search_.k();
  const QueryStats stats =
      slot.reads.finish(search_, slot.scratch, output.ids + first, output.distances + first);
  if (output.stats != nullptr) output.stats[slot.query] = stats;
  slot.state = Slot::State::idle;
  return true;
}

void DiskInterleaver::take_answers(bool wait) {
  std::array<io::BlockDone, 64> done;
  size_t count = wait ? reader_->wait(done) : reader_->poll(done);
  for (; count > 0; count = reader_->poll(done)) {
    for (size_t i = 0; i < count; ++i) {
      Slot& slot = *slots_[VectorReads::slot_of(done[i].tag)];
      slot.reads.take(search_, slot.scratch, done[i]);
    }
  }
}

}  // namespace bigrain::search
