// SPDX-License-Identifier: Apache-2.0
#include "search/exact_candidates.h"

#include <algorithm>

namespace bigrain::exact {

float keep_possible(std::vector<Candidate>& candidates, size_t k) {
  if (candidates.size() < k) return std::numeric_limits<float>::infinity();
  const auto kth = candidates.begin() + static_cast<std::ptrdiff_t>(k) - 1;
  std::nth_element(candidates.begin(), kth, candidates.end(),
                   [](const Candidate& a, const Candidate& b) {
                     return a.upper() != b.upper() ? a.upper() < b.upper() : a.row < b.row;
                   });
  // At equal distance the k found so far have rows up to the pivot's, and a later row loses to
  // them.
  const Candidate pivot = *kth;
  const float limit = pivot.upper();
  std::erase_if(candidates, [&](const Candidate& c) {
    return c.lower() > limit || (c.lower() == limit && c.row > pivot.row);
  });
  return limit;
}

void CandidateSet::select() {
  limit_ = keep_possible(candidates_, k_);
  if (candidates_.size() <= capacity_ - capacity_ / 4) return;
  if (capacity_ < kGrowth * initial_capacity(k_)) {
    capacity_ *= 2;
    candidates_.reserve(capacity_);
    return;
  }
  overflowed_ = true;
  limit_ = -std::numeric_limits<float>::infinity();
  candidates_ = {};
}

}  // namespace bigrain::exact
