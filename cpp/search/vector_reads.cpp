// SPDX-License-Identifier: Apache-2.0
#include "search/vector_reads.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

namespace bigrain::search {

namespace {

// The first batch: k, and a few more that are nearly always wanted (bench/LOG.md).
size_t first_batch(uint32_t k) { return k + std::max<uint32_t>(2, k / 4); }

}  // namespace

VectorReads::VectorReads(const format::PointFile& points, const HotRows& hot, ReadBuffers buffers,
                         uint32_t slot)
    : points_(points), hot_(hot), buffers_(buffers), slot_(slot), rank_of_(buffers.count) {
  free_.resize(buffers.count);
  std::iota(free_.rbegin(), free_.rend(), 0u);
}

void VectorReads::start(const QuerySearch& search, QueryScratch& scratch) {
  candidates_.assign(search.candidates(scratch), Candidate{});
  wanted_ = std::min(first_batch(search.k()), candidates_.size());
  begun_ = arrived_ = 0;
  reads_ = rounds_ = 0;
}

bool VectorReads::advance(const QuerySearch& search, QueryScratch& scratch,
                          io::BlockReader& reader) {
  while (true) {
    if (arrived_ == wanted_) extend(search, scratch);
    if (arrived_ == wanted_) return true;
    const uint32_t before = reads_;
    const bool was_idle = begun_ == arrived_;
    while (begun_ < wanted_) {
      if (take_hot(search, scratch)) continue;
      if (free_.empty() || reader.in_flight() == reader.depth()) break;
      const uint32_t buffer = free_.back();
      const uint32_t id = scratch.greedy.pool.id(begun_);
      const io::BlockRead read[] = {
          points_.read_of(points_.vector(id), buffers_.at(buffer), tag(buffer))};
      reader.submit(read);
      free_.pop_back();
      rank_of_[buffer] = static_cast<uint32_t>(begun_++);
      ++reads_;
    }
    if (was_idle && reads_ > before) ++rounds_;
    if (arrived_ < wanted_) return false;
  }
}

// Takes the next candidate if its vector is in memory.
bool VectorReads::take_hot(const QuerySearch& search, const QueryScratch& scratch) {
  const uint32_t id = scratch.greedy.pool.id(begun_);
  const size_t place = hot_.find(id);
  if (place == HotRows::kNone) return false;
  const bool has_id = points_.shape().has_ids && points_.shape().coupled;
  measure(search, scratch, begun_++, hot_.row(place),
          has_id ? hot_.external(place) : search.external_id(id));
  return true;
}

void VectorReads::measure(const QuerySearch& search, const QueryScratch& scratch, size_t rank,
                          const void* vector, int64_t external) {
  candidates_[rank] = {search.distance(scratch.query, static_cast<const std::byte*>(vector)),
                       external};
  ++arrived_;
}

void VectorReads::take(const QuerySearch& search, const QueryScratch& scratch,
                       const io::BlockDone& done) {
  const auto buffer = static_cast<uint32_t>(done.tag);
  const uint32_t rank = rank_of_[buffer], id = scratch.greedy.pool.id(rank);
  const format::PagePlace place = points_.vector(id);
  const std::byte* pages = buffers_.at(buffer);
  points_.check(place, pages, done.result);
  const std::byte* record = pages + place.in_page;
  int64_t external = 0;
  if (points_.shape().has_ids && points_.shape().coupled) {
    std::memcpy(&external, record + points_.shape().id_offset, sizeof external);
  } else {
    external = search.external_id(id);
  }
  measure(search, scratch, rank, record + points_.vector_offset(), external);
  free_.push_back(buffer);
}

// All that was wanted is here: what else could enter the answer?
void VectorReads::extend(const QuerySearch& search, const QueryScratch& scratch) {
  NearestK nearest;
  nearest.reset(search.k());
  size_t i = 0;
  for (; i < wanted_ && scratch.bound.lower(scratch.greedy.pool.score(i)) <= nearest.worst(); ++i) {
    if (!std::isnan(candidates_[i].distance)) {
      nearest.insert({candidates_[i].distance, static_cast<uint32_t>(i)});
    }
  }
  if (i < wanted_) return;
  while (wanted_ < candidates_.size() &&
         scratch.bound.lower(scratch.greedy.pool.score(wanted_)) <= nearest.worst()) {
    ++wanted_;
  }
}

QueryStats VectorReads::finish(const QuerySearch& search, QueryScratch& scratch, int64_t* ids,
                               float* distances) {
  const Pool& pool = scratch.greedy.pool;
  NearestK& nearest = scratch.nearest;
  nearest.reset(search.k());
  scratch.external.clear();
  size_t i = 0;
  for (; i < wanted_ && scratch.bound.lower(pool.score(i)) <= nearest.worst(); ++i) {
    if (std::isnan(candidates_[i].distance)) continue;
    nearest.insert({candidates_[i].distance, pool.id(i)});
    scratch.external.push_back({pool.id(i), candidates_[i].external});
  }
  std::sort(scratch.external.begin(), scratch.external.end());
  scratch.ranked = static_cast<uint32_t>(i);
  QueryStats stats = search.finish(scratch, ids, distances);
  const uint64_t bytes = uint64_t{reads_} * buffers_.bytes_each;
  stats.reads = reads_;
  stats.cache_hits = static_cast<uint32_t>(arrived_) - reads_;
  stats.bytes = static_cast<uint32_t>(std::min<uint64_t>(bytes, UINT32_MAX));
  stats.rounds = rounds_;
  return stats;
}

}  // namespace bigrain::search
