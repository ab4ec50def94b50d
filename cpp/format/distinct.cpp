// SPDX-License-Identifier: Apache-2.0
// A radix sort: a hash table would be shorter, but its time is at the mercy of whoever chose the
// values, and those come from files.
#include "format/distinct.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace bigrain::format {

namespace {

constexpr size_t kValuesPerPoll = 1 << 20;  // a few milliseconds of work
constexpr int kDigitBits = 8, kDigits = 64 / kDigitBits;
constexpr size_t kDigitValues = size_t{1} << kDigitBits;

size_t digit_of(int64_t value, int digit) {
  return (static_cast<uint64_t>(value) >> (kDigitBits * digit)) & (kDigitValues - 1);
}

// Stable scatter of `from` into `to` by one digit; false if all values share that digit.
bool sort_by_digit(const std::vector<int64_t>& from, std::vector<int64_t>& to, int digit,
                   Monitor& monitor) {
  std::array<size_t, kDigitValues> next{};
  for (const int64_t value : from) ++next[digit_of(value, digit)];
  if (std::find(next.begin(), next.end(), from.size()) != next.end()) return false;
  size_t start = 0;
  for (size_t& slot : next) start += std::exchange(slot, start);
  for (size_t i = 0; i < from.size(); ++i) {
    if (i % kValuesPerPoll == 0) monitor.check();
    to[next[digit_of(from[i], digit)]++] = from[i];
  }
  return true;
}

}  // namespace

std::optional<int64_t> find_repeated(std::span<const int64_t> values, Monitor& monitor) {
  const auto not_ascending = [](int64_t a, int64_t b) { return a >= b; };
  if (std::adjacent_find(values.begin(), values.end(), not_ascending) == values.end()) return {};
  std::vector<int64_t> sorted(values.begin(), values.end()), other(values.size());
  for (int digit = 0; digit < kDigits; ++digit) {
    if (sort_by_digit(sorted, other, digit, monitor)) sorted.swap(other);
  }
  const auto twin = std::adjacent_find(sorted.begin(), sorted.end());
  if (twin == sorted.end()) return {};
  return *twin;
}

}  // namespace bigrain::format
