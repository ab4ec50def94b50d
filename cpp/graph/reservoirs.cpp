// SPDX-License-Identifier: Apache-2.0
#include "graph/reservoirs.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace bigrain::graph {

namespace {

// As in search/pool.h: integers in the order of the floats.
uint64_t key_of(float distance, uint32_t id) {
  const uint32_t bits = std::bit_cast<uint32_t>(distance + 0.0f);
  const uint32_t ordered = bits ^ ((bits >> 31) != 0 ? 0xffffffffu : 0x80000000u);
  return uint64_t{ordered} << 32 | id;
}

float distance_of(uint64_t key) {
  const uint32_t ordered = static_cast<uint32_t>(key >> 32);
  return std::bit_cast<float>(ordered ^ ((ordered >> 31) != 0 ? 0x80000000u : 0xffffffffu));
}

}  // namespace

Reservoirs::Reservoirs(size_t count, size_t capacity)
    : capacity_(capacity),
      keys_(count * capacity * sizeof(uint64_t)),
      limits_(new std::atomic<uint64_t>[count]),
      busy_(new std::atomic_flag[count]()),
      counts_(count) {
  for (size_t i = 0; i < count; ++i) limits_[i].store(~uint64_t{0}, std::memory_order_relaxed);
}

void Reservoirs::offer(uint32_t point, float distance, uint32_t candidate) {
  const uint64_t key = key_of(distance, candidate);
  if (key >= limits_[point].load(std::memory_order_relaxed)) return;
  while (busy_[point].test_and_set(std::memory_order_acquire)) {
  }
  uint64_t* const begin = keys_.as<uint64_t>().data() + point * capacity_;
  size_t count = counts_[point];
  uint64_t* const place = std::lower_bound(begin, begin + count, key);
  const bool is_new = place == begin + count ? count < capacity_ : *place != key;
  if (is_new) {
    if (count < capacity_) ++count;
    std::memmove(place + 1, place, static_cast<size_t>(begin + count - 1 - place) * sizeof(key));
    *place = key;
    counts_[point] = static_cast<uint16_t>(count);
    if (count == capacity_) limits_[point].store(begin[count - 1], std::memory_order_relaxed);
  }
  busy_[point].clear(std::memory_order_release);
}

void Reservoirs::read(uint32_t point, std::vector<search::ScoredId>& out) const {
  const uint64_t* const keys = keys_.as<uint64_t>().data() + point * capacity_;
  for (size_t i = 0; i < counts_[point]; ++i)
    out.push_back({distance_of(keys[i]), static_cast<uint32_t>(keys[i])});
}

}  // namespace bigrain::graph
