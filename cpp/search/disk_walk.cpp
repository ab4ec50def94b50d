// SPDX-License-Identifier: Apache-2.0
#include "search/disk_walk.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "bigrain/error.h"

namespace bigrain::search {

namespace {

// Entries that become candidates: 1, 4 and 10 read alike, and further ones would only push better
// candidates out of a narrow window.
constexpr size_t kStarts = 4;
// Candidates passed over in search of one whose row is in memory: about a narrow window. 20 for 8
// read 2 % less on GloVe (bench/LOG.md).
constexpr size_t kLookAhead = 20;
// As PipeANN: a walk has arrived once so many of its nearest are expanded; reads are in vain if
// their point is no candidate any more when they come, and may be so one in ten times.
constexpr size_t kArrived = 5;
constexpr uint32_t kTolerated = 10;
// Standard errors of a code by which a point must miss the answers: at 2, recall .99 was out of
// reach on MiniLM (bench/LOG.md, "reads of a walk on an SSD").
constexpr double kDeviations = 3;
constexpr uint32_t kLeastErrors = 10;  // before their deviation counts

[[noreturn]] void throw_bad_id(uint32_t vertex, uint32_t id, uint64_t count) {
  throw Error::corrupt("section nodes: row " + std::to_string(vertex) + " names vertex " +
                       std::to_string(id) + "; expected ids below " + std::to_string(count) +
                       "; the index is damaged, build or copy it again");
}

}  // namespace

DiskWalk::DiskWalk(const DiskTerrain& terrain, const DiskWalkParams& params)
    : terrain_(terrain),
      params_(params),
      distance_(
          simd::active_kernels().distance_of(terrain.parts.meta.metric, terrain.parts.meta.dtype)),
      unit_(terrain.parts.meta.metric == Metric::l2 ? 1.0f : 2.0f) {
  const size_t room = std::max<size_t>({terrain.entries.size(), terrain.parts.meta.degree,
                                        terrain.points.shape().nodes.per_page}) +
                      1;
  batch_.resize(room);
  scores_.resize(room);
  page_scores_.resize(room);
}

void DiskWalk::start(const void* query, uint32_t self, PageReader& reader) {
  query_ = query;
  self_ = self;
  found_.clear();
  owed_.clear();
  nearest_.clear();
  settled_.clear();
  next_owed_ = 0;
  is_walking_ = true;
  width_ = params_.first_reads;
  useful_ = wasted_ = depth_ = errors_ = 0;
  error_sum_ = error_squares_ = 0;
  cost_ = {};
  const IndexMeta& meta = terrain_.parts.meta;
  const auto window =
      static_cast<uint32_t>(std::min<uint64_t>(params_.window, std::max<uint64_t>(meta.count, 1)));
  pool_.reset(window, window);
  visited_.reset(size_t{window} * meta.degree / 2);
  codes_.prepare(terrain_.space, query);
  enter();
  ask(reader);
}

void DiskWalk::enter() {
  const std::span<const uint32_t> entries = terrain_.entries;
  codes_.score(terrain_.codes(), entries, scores_.data());
  cost_.code_distances += static_cast<uint32_t>(entries.size());
  std::iota(batch_.begin(), batch_.begin() + static_cast<ptrdiff_t>(entries.size()), 0u);
  const auto starts = batch_.begin() + static_cast<ptrdiff_t>(std::min(kStarts, entries.size()));
  std::partial_sort(batch_.begin(), starts, batch_.begin() + static_cast<ptrdiff_t>(entries.size()),
                    [&](uint32_t a, uint32_t b) {
                      return scores_[a] != scores_[b] ? scores_[a] < scores_[b] : a < b;
                    });
  for (auto i = batch_.begin(); i != starts; ++i) {
    visited_.insert(entries[*i]);
    pool_.insert(scores_[*i], entries[*i]);
  }
}

void DiskWalk::ask(PageReader& reader) {
  while (flights_.size() < width_ && ask_next(reader)) {
  }
}

bool DiskWalk::ask_next(PageReader& reader) {
  if (is_walking_) {
    expand_resident();
    if (pool_.has_next()) {
      const float score = pool_.next_score();
      ask_for(RecordKind::node, {score, pool_.pop()}, reader);
      return true;
    }
    if (!flights_.empty()) return false;  // what comes may bring candidates
    is_walking_ = false;
    width_ = params_.most_reads;
    settle_debts();
  }
  if (next_owed_ == owed_.size()) return false;
  const Owed& owed = owed_[next_owed_];
  if (is_beyond(owed)) {
    next_owed_ = owed_.size();
    return false;
  }
  ++next_owed_;
  const format::NodeShape& shape = terrain_.points.shape();
  if (!shape.coupled) {
    ask_for(RecordKind::vector, owed, reader);
  } else if (const uint64_t page = shape.nodes.page_of(owed.id);
             std::find(settled_.begin(), settled_.end(), page) == settled_.end()) {
    settled_.push_back(page);  // brings all that it holds
    ask_for(RecordKind::node, owed, reader);
  }
  return true;
}

void DiskWalk::ask_for(RecordKind kind, const Owed& point, PageReader& reader) {
  const format::NodeShape& shape = terrain_.points.shape();
  const format::RecordShape& records = kind == RecordKind::node ? shape.nodes : shape.fulls;
  const uint64_t page = records.page_of(point.id);
  for (Flight& flight : flights_) {
    if (flight.kind != kind || flight.page != page) continue;
    flight.wanted.push_back(point);
    return;
  }
  flights_.push_back({kind, false, reader.ask(kind, point.id, self_), depth_ + 1, page, {}});
  if (!spare_.empty()) {
    flights_.back().wanted = std::move(spare_.back());
    spare_.pop_back();
    flights_.back().wanted.clear();
  }
  flights_.back().wanted.push_back(point);
  cost_.reads += 1;
  cost_.bytes += records.pages_each * static_cast<uint32_t>(format::kPageBytes);
}

void DiskWalk::expand_resident() {
  const HotRows& hot = terrain_.hot;
  if (hot.size() == 0) return;
  size_t passed = 0;
  for (size_t i = pool_.cursor(); i < pool_.size() && passed < kLookAhead;) {
    const size_t place = pool_.is_expanded(i) ? HotRows::kNone : hot.find(pool_.id(i));
    if (place == HotRows::kNone) {
      passed += pool_.is_expanded(i) ? 0 : 1;
      ++i;
      continue;
    }
    const uint32_t id = pool_.id(i);
    owed_.push_back({pool_.score(i), id, hot.external(place)});
    pool_.mark_expanded(i);
    expand(id, hot.row(place));
    cost_.cache_hits += 1;
    i = pool_.cursor();  // nearer ones may have come
    passed = 0;
  }
}

// Of what was expanded, those whose vectors are still to be read, nearest first.
void DiskWalk::settle_debts() {
  std::vector<uint32_t>& known = batch_;
  const size_t count = found_.size();
  if (known.size() < count) known.resize(count);
  for (size_t i = 0; i < count; ++i) known[i] = found_[i].id;
  const auto end = known.begin() + static_cast<ptrdiff_t>(count);
  std::sort(known.begin(), end);
  std::erase_if(owed_,
                [&](const Owed& owed) { return std::binary_search(known.begin(), end, owed.id); });
  std::sort(owed_.begin(), owed_.end(), [](const Owed& a, const Owed& b) {
    return a.score != b.score ? a.score < b.score : a.id < b.id;
  });
}

// Whether the point, and all whose score is no smaller, can be taken to be none of the k nearest.
bool DiskWalk::is_beyond(const Owed& owed) const {
  if (nearest_.size() < params_.k || errors_ < kLeastErrors) return false;
  const double mean = error_sum_ / errors_;
  const double variance = std::max(error_squares_ / errors_ - mean * mean, 0.0);
  return static_cast<double>(owed.score) + mean - kDeviations * std::sqrt(variance) >
         static_cast<double>(nearest_.front() * unit_);
}

void DiskWalk::arrive(uint32_t slot, PageReader& reader) {
  for (Flight& flight : flights_) flight.has_come |= flight.slot == slot;
  for (;;) {
    auto next = std::find_if(flights_.begin(), flights_.end(),
                             [](const Flight& flight) { return flight.has_come; });
    if (params_.deterministic) next = flights_.begin();
    if (next == flights_.end() || !next->has_come) return;
    Flight flight = std::move(*next);
    flights_.erase(next);
    depth_ = std::max(depth_, flight.depth);
    process(flight, reader);
    reader.release(flight.slot);
    spare_.push_back(std::move(flight.wanted));
    ask(reader);
  }
}

void DiskWalk::process(const Flight& flight, PageReader& reader) {
  const format::NodeShape& shape = terrain_.points.shape();
  const std::byte* const pages = reader.pages(flight.slot);
  if (flight.kind == RecordKind::vector) {
    for (const Owed& point : flight.wanted)
      measure(pages + shape.fulls.offset_of(point.id), point, true);
    return;
  }
  const uint64_t first = flight.page / shape.nodes.pages_each * shape.nodes.per_page;
  const auto count = static_cast<uint32_t>(
      std::min<uint64_t>(shape.nodes.per_page, terrain_.parts.meta.count - first));
  std::iota(batch_.begin(), batch_.begin() + count, static_cast<uint32_t>(first));
  codes_.score(terrain_.codes(), std::span(batch_).first(count), page_scores_.data());
  cost_.code_distances += count;
  if (is_walking_) adapt_width(flight);
  for (uint32_t i = 0; i < count; ++i) {
    const auto id = static_cast<uint32_t>(first + i);
    const bool wanted = std::any_of(flight.wanted.begin(), flight.wanted.end(),
                                    [id](const Owed& point) { return point.id == id; });
    process_node(pages + i * shape.nodes.bytes, {page_scores_[i], id, 0}, wanted);
  }
}

void DiskWalk::process_node(const std::byte* record, Owed point, bool wanted) {
  const format::NodeShape& shape = terrain_.points.shape();
  point.external = point.id;
  if (shape.has_ids) std::memcpy(&point.external, record + shape.id_offset, sizeof(int64_t));
  const bool near = wanted || point.score < pool_.worst();
  if (shape.coupled) measure(record + shape.vector_offset, point, near);
  if (!is_walking_) return;
  visited_.insert(point.id);
  if (!wanted) {
    pool_.insert(point.score, point.id);
    const size_t place = pool_.find(point.score, point.id);
    if (place == pool_.size() || pool_.is_expanded(place)) return;
    pool_.mark_expanded(place);
  }
  if (!shape.coupled) owed_.push_back(point);
  expand(point.id, reinterpret_cast<const uint32_t*>(record));
}

// `near`: near enough for its code's error to tell something about candidates.
void DiskWalk::measure(const std::byte* vector, const Owed& point, bool near) {
  const float distance = distance_(query_, vector, terrain_.parts.meta.dim);
  cost_.full_distances += 1;
  // Only a damaged file holds vectors that give NaN; such a point is no answer.
  if (std::isnan(distance)) return;
  found_.push_back({distance, point.id, point.external});
  if (near) {
    const double error = static_cast<double>(distance * unit_ - point.score);
    error_sum_ += error;
    error_squares_ += error * error;
    errors_ += 1;
  }
  if (nearest_.size() == params_.k) {
    if (!(distance < nearest_.front())) return;
    std::pop_heap(nearest_.begin(), nearest_.end());
    nearest_.pop_back();
  }
  nearest_.push_back(distance);
  std::push_heap(nearest_.begin(), nearest_.end());
  if (std::isfinite(params_.slack)) end_early();
}

void DiskWalk::end_early() {
  if (nearest_.size() < params_.k || errors_ < kLeastErrors) return;
  const double factor = (1.0 + double{params_.slack}) * (1.0 + double{params_.slack});
  const double farthest = std::max(double{nearest_.front()} * double{unit_}, 0.0);
  pool_.limit(static_cast<float>(factor * farthest - error_sum_ / errors_), 0);
}

void DiskWalk::expand(uint32_t id, const uint32_t* row) {
  const IndexMeta& meta = terrain_.parts.meta;
  size_t gathered = 0;
  for (size_t i = 0; i < meta.degree; ++i) {
    const uint32_t neighbour = row[i];
    if (neighbour == id) break;
    if (neighbour >= meta.count) throw_bad_id(id, neighbour, meta.count);
    batch_[gathered] = neighbour;
    gathered += visited_.insert(neighbour) ? 1 : 0;
  }
  codes_.score(terrain_.codes(), std::span(batch_).first(gathered), scores_.data());
  for (size_t i = 0; i < gathered; ++i) pool_.insert(scores_[i], batch_[i]);
  cost_.hops += 1;
  cost_.code_distances += static_cast<uint32_t>(gathered);
}

void DiskWalk::adapt_width(const Flight& flight) {
  if (pool_.cursor() <= kArrived) return;
  for (const Owed& point : flight.wanted) {
    const bool useful = pool_.find(point.score, point.id) < pool_.size();
    (useful ? useful_ : wasted_) += 1;
  }
  if (width_ < params_.most_reads && wasted_ * kTolerated <= useful_ + wasted_) ++width_;
}

QueryStats DiskWalk::finish(int64_t* ids, float* distances) {
  const size_t found = std::min<size_t>(params_.k, found_.size());
  std::partial_sort(found_.begin(), found_.begin() + static_cast<ptrdiff_t>(found), found_.end(),
                    [](const Found& a, const Found& b) {
                      return a.distance != b.distance ? a.distance < b.distance : a.id < b.id;
                    });
  for (size_t i = 0; i < found; ++i) {
    ids[i] = found_[i].external;
    distances[i] = found_[i].distance;
  }
  std::fill(ids + found, ids + params_.k, int64_t{-1});
  std::fill(distances + found, distances + params_.k, std::numeric_limits<float>::infinity());
  cost_.rounds = depth_;
  return cost_;
}

}  // namespace bigrain::search
