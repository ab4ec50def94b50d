// SPDX-License-Identifier: Apache-2.0
#include "graph/prune.h"

#include <algorithm>
#include <limits>

#include "quant/scalar8.h"

namespace bigrain::graph {

void Pivot::set(const CodeDistances& distances, uint32_t id) {
  query_ = quant::prepare_record(distances.codes.record(id), distances.codes.stride,
                                 reinterpret_cast<int8_t*>(buffer_.data()), &offset_);
}

void Pivot::distances_to(const CodeDistances& distances, std::span<const uint32_t> ids,
                         float* out) const {
  distances.score_codes(query_, distances.codes.records, distances.codes.stride, ids.data(),
                        ids.size(), out);
  for (size_t i = 0; i < ids.size(); ++i) out[i] += offset_;
}

namespace {

void sort_distinct(std::vector<search::ScoredId>& candidates) {
  std::sort(candidates.begin(), candidates.end(),
            [](const search::ScoredId& a, const search::ScoredId& b) {
              return a.score != b.score ? a.score < b.score : a.id < b.id;
            });
  // A point's distance is a function of its id: equal ids are neighbours in the order.
  const auto same_id = [](const search::ScoredId& a, const search::ScoredId& b) {
    return a.id == b.id;
  };
  candidates.erase(std::unique(candidates.begin(), candidates.end(), same_id), candidates.end());
}

// How far the chosen one occludes a candidate: the candidate stays while this is at most the limit
// that alpha sets.
float occlusion_of(bool inner_product, float to_point, float to_chosen) {
  // For inner product the distances are negative similarities; a candidate that points away from
  // the point is occluded by every chosen one that is nearer to it.
  if (inner_product && to_point < 0) return to_chosen / to_point;
  if (inner_product) {
    return to_chosen < to_point ? std::numeric_limits<float>::infinity() : 0.0f;
  }
  // A copy of the chosen one is occluded for every alpha.
  return to_chosen > 0 ? to_point / to_chosen : std::numeric_limits<float>::infinity();
}

// The limit for an alpha: the paper's alpha compares distances, these are squared; for inner
// product it shrinks similarities.
float limit_of(bool inner_product, float alpha) {
  return inner_product ? 1 / alpha : alpha * alpha;
}

// Candidates not chosen and not yet occluded for good, sorted by distance to the point, with how
// strongly each is occluded by the chosen ones before it.
struct Survivors {
  Survivors(const std::vector<search::ScoredId>& candidates, PruneScratch& memory)
      : count(candidates.size()), scratch(memory) {
    scratch.ids.resize(count);
    scratch.to_point.resize(count);
    scratch.to_chosen.resize(count);
    scratch.occlusion.assign(count, 0.0f);
    for (size_t i = 0; i < count; ++i) {
      scratch.ids[i] = candidates[i].id;
      scratch.to_point[i] = candidates[i].score;
    }
  }

  // Takes out survivor i and every farther one that it occludes beyond `last`.
  void choose(size_t i, const CodeDistances& distances, float last) {
    scratch.pivot.set(distances, scratch.ids[i]);
    scratch.pivot.distances_to(distances, {scratch.ids.data() + i + 1, count - i - 1},
                               scratch.to_chosen.data() + i + 1);
    size_t kept = i;
    for (size_t j = i + 1; j < count; ++j) {
      const float occlusion =
          occlusion_of(distances.inner_product, scratch.to_point[j], scratch.to_chosen[j]);
      scratch.ids[kept] = scratch.ids[j];
      scratch.to_point[kept] = scratch.to_point[j];
      scratch.occlusion[kept] = std::max(scratch.occlusion[j], occlusion);
      kept += scratch.occlusion[kept] <= last ? 1 : 0;
    }
    count = kept;
  }

  size_t count;
  PruneScratch& scratch;
};

// Between the rounds, on the limit: alpha grows by 1.05 a round. DiskANN steps by 1.2; smaller
// steps put the strictest first at every level (bench/LOG.md).
constexpr float kLimitStep = 1.05f * 1.05f;

}  // namespace

size_t robust_prune(const CodeDistances& distances, std::vector<search::ScoredId>& candidates,
                    float alpha, size_t degree, PruneScratch& scratch, uint32_t* chosen) {
  sort_distinct(candidates);
  Survivors survivors(candidates, scratch);
  const float last = limit_of(distances.inner_product, alpha);
  size_t count = 0;
  for (float limit = std::min(1.0f, last);; limit = std::min(limit * kLimitStep, last)) {
    for (size_t i = 0; i < survivors.count && count < degree;) {
      if (scratch.occlusion[i] > limit) {
        ++i;
        continue;
      }
      chosen[count++] = scratch.ids[i];
      if (count < degree) survivors.choose(i, distances, last);
    }
    if (count == degree || limit >= last) return count;
  }
}

}  // namespace bigrain::graph
