// SPDX-License-Identifier: Apache-2.0
// Rows that may be among the k nearest of one query, while scores are known up to an error bound.
//
// Kept is every row whose lower bound (score - bound) does not exceed the k-th smallest upper bound
// (score + bound) seen so far: the k rows behind that upper bound are at least as near as it says,
// so whatever lies surely beyond it is not needed. The set is a reservoir: rows are appended, and
// when it is full the k-th upper bound is selected afresh and what it excludes leaves, so that a
// row costs amortised O(1). The final content depends on the order of arrival, but always contains
// the k nearest, which is all that callers may use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace bigrain::exact {

struct Candidate {
  float score;
  float bound;  // 0: the score is the distance itself
  uint32_t row;

  float lower() const { return score - bound; }
  float upper() const { return score + bound; }
};

// Removes the candidates that are surely not among the k nearest, and returns the limit: lower
// bounds above it are not either. Where all bounds are 0 exactly the k nearest stay, ties going to
// the smaller row.
float keep_possible(std::vector<Candidate>& candidates, size_t k);

class CandidateSet {
 public:
  // Where a set starts and ends to grow. Twice k amortises the selections; the constant makes room
  // for small k.
  static constexpr size_t kSlack = 128, kGrowth = 4;
  static size_t initial_capacity(size_t k) { return 2 * k + kSlack; }

  explicit CandidateSet(size_t k) : k_(k), capacity_(initial_capacity(k)) {}

  // Scores whose lower bound exceeds this need not be added.
  float limit() const { return limit_; }

  void add(float score, float bound, size_t row) {
    if (overflowed_) return;
    candidates_.push_back({score, bound, static_cast<uint32_t>(row)});
    if (candidates_.size() == capacity_) select();
  }

  // So many rows could not be told apart within their bounds that the set gave up; its content is
  // gone, and limit() is -infinity. Cannot happen while every bound is 0.
  bool overflowed() const { return overflowed_; }

  const std::vector<Candidate>& candidates() const { return candidates_; }

 private:
  void select();

  size_t k_, capacity_;
  float limit_ = std::numeric_limits<float>::infinity();
  bool overflowed_ = false;
  std::vector<Candidate> candidates_;
};

}  // namespace bigrain::exact
