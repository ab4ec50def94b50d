// SPDX-License-Identifier: Apache-2.0
// Searches on an SSD against a plain walk over arrays, on real and on simulated devices.
#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <numeric>
#include <set>
#include <vector>

#include "check.h"
#include "disk_fixture.h"

namespace bigrain {
namespace {

using namespace check;
using search::DiskSearchParams;

struct Answer {
  std::vector<int64_t> ids;
  std::vector<float> distances;
  size_t reads = 0;
};

// The walk of search/disk_walk.h with everything in memory, sets for its pool and what it has seen,
// and a queue for what is under way.
class PlainWalk {
 public:
  PlainWalk(const IndexParts& parts, const search::HotRows& hot, uint32_t k, size_t window,
            size_t width, const std::byte* query)
      : parts_(parts),
        shape_(format::node_shape(parts.meta, parts.ids.size() != 0)),
        hot_(hot),
        k_(k),
        window_(window),
        width_(width),
        query_(query) {
    codes_.prepare(quant::PqSpace(parts), query);
  }

  Answer run() {
    enter();
    for (;;) {
      while (under_way_.size() < width_ && walk_on()) {
      }
      if (under_way_.empty()) break;
      const uint64_t page = under_way_.front();
      under_way_.pop_front();
      for (uint64_t id = page * shape_.nodes.per_page;
           id < std::min<uint64_t>((page + 1) * shape_.nodes.per_page, parts_.meta.count); ++id)
        meet(static_cast<uint32_t>(id));
    }
    settle();
    std::sort(found_.begin(), found_.end());
    for (size_t i = 0; i < k_; ++i) {
      const bool there = i < found_.size();
      const std::span<const int64_t> ids = parts_.ids.as<int64_t>();
      answer_.distances.push_back(there ? found_[i].first : std::numeric_limits<float>::infinity());
      answer_.ids.push_back(!there ? -1 : ids.empty() ? found_[i].second : ids[found_[i].second]);
    }
    return answer_;
  }

 private:
  using Scored = std::pair<float, uint32_t>;

  float score(uint32_t id) const {
    float out;
    codes_.score(parts_.pq_codes.as<uint8_t>().data(), std::span(&id, 1), &out);
    return out;
  }
  float distance(uint32_t id) const {
    const IndexMeta& meta = parts_.meta;
    return simd::active_kernels().distance_of(meta.metric, meta.dtype)(
        query_, parts_.vectors.data() + id * size_t{shape_.vector_bytes}, meta.dim);
  }

  void enter() {
    std::vector<Scored> all;
    for (const uint32_t id : search::disk_entries(parts_.meta.count))
      all.push_back({score(id), id});
    std::sort(all.begin(), all.end());
    for (size_t i = 0; i < std::min<size_t>(4, all.size()); ++i) offer(all[i].second);
  }
  void offer(uint32_t id) {
    if (!seen_.insert(id).second) return;
    pool_.insert({score(id), id});
    if (pool_.size() > window_) pool_.erase(std::prev(pool_.end()));
  }
  void expand(uint32_t id) {
    for (size_t i = 0; i < parts_.meta.degree; ++i)
      offer(parts_.graph.as<uint32_t>()[size_t{id} * parts_.meta.degree + i]);
  }
  bool expand_resident() {
    size_t passed = 0;
    for (const Scored& candidate : pool_) {
      if (expanded_.contains(candidate.second)) continue;
      if (hot_.find(candidate.second) != search::HotRows::kNone) {
        const Scored taken = candidate;
        expanded_.insert(taken.second);
        owed_.push_back(taken);
        expand(taken.second);
        return true;
      }
      if (++passed == 20) break;
    }
    return false;
  }
  // false: nothing to ask for now.
  bool walk_on() {
    while (expand_resident()) {
    }
    for (const Scored& candidate : pool_) {
      if (expanded_.contains(candidate.second)) continue;
      expanded_.insert(candidate.second);
      wanted_.insert(candidate.second);
      const uint64_t page = candidate.second / shape_.nodes.per_page;
      if (std::find(under_way_.begin(), under_way_.end(), page) != under_way_.end()) return true;
      under_way_.push_back(page);
      answer_.reads += 1;
      return true;
    }
    return false;
  }
  void meet(uint32_t id) {
    const bool wanted = wanted_.contains(id), near = wanted || score(id) < worst();
    if (shape_.coupled) measure(id, near);
    if (!wanted) {
      if (!(score(id) < worst()) && !pool_.contains({score(id), id})) {
        seen_.insert(id);
        return;
      }
      offer(id);
      if (!pool_.contains({score(id), id}) || !expanded_.insert(id).second) return;
    }
    seen_.insert(id);
    if (!shape_.coupled) owed_.push_back({score(id), id});
    expand(id);
  }
  float worst() const {
    return pool_.size() < window_ ? std::numeric_limits<float>::infinity() : pool_.rbegin()->first;
  }
  void measure(uint32_t id, bool near) {
    if (!known_.insert(id).second) return;
    found_.push_back({distance(id), id});
    if (near) errors_.push_back(double{distance(id)} * unit() - double{score(id)});
  }
  double unit() const { return parts_.meta.metric == Metric::l2 ? 1 : 2; }

  // Reads here one at a time; only the number of reads differs from a wide walk's.
  void settle() {
    std::sort(owed_.begin(), owed_.end());
    for (const Scored& point : owed_) {
      if (known_.contains(point.second)) continue;
      std::sort(found_.begin(), found_.end());
      if (found_.size() >= k_ && errors_.size() >= 10) {
        const auto n = static_cast<double>(errors_.size());
        const double mean = std::accumulate(errors_.begin(), errors_.end(), 0.0) / n;
        double variance = 0;
        for (const double error : errors_) variance += (error - mean) * (error - mean) / n;
        if (double{point.first} + mean - 3 * std::sqrt(variance) >
            double{found_[k_ - 1].first} * unit())
          break;
      }
      if (!shape_.coupled) {
        measure(point.second, true);
        continue;
      }
      const uint64_t first = point.second / shape_.nodes.per_page * shape_.nodes.per_page;
      for (uint64_t id = first;
           id < std::min<uint64_t>(first + shape_.nodes.per_page, parts_.meta.count); ++id) {
        const auto mate = static_cast<uint32_t>(id);
        measure(mate, mate == point.second || score(mate) < worst());
      }
    }
  }

  const IndexParts& parts_;
  const format::NodeShape shape_;
  const search::HotRows& hot_;
  const size_t k_, window_, width_;
  const std::byte* query_;
  quant::PqQuery codes_;
  std::set<Scored> pool_;
  std::set<uint32_t> seen_, expanded_, wanted_, known_;
  std::deque<uint64_t> under_way_;
  std::vector<Scored> owed_;
  std::vector<std::pair<float, uint32_t>> found_;
  std::vector<double> errors_;
  Answer answer_;
};

MatrixView rows_of(const Buffer& queries, const DiskShape& shape, size_t count) {
  return {queries.data(), count, shape.dim, shape.dtype};
}

double shared(std::span<const int64_t> a, std::span<const int64_t> b) {
  size_t both = 0;
  for (const int64_t id : a) both += std::count(b.begin(), b.end(), id) > 0 ? 1 : 0;
  return static_cast<double>(both) / static_cast<double>(b.size());
}

constexpr uint32_t kK = 10, kWindow = 30;
constexpr size_t kQueries = 20;

// Vectors that are read in the end are read one by one in a plain walk: more than one read under
// way only where there are none.
void check_against_plain_walk(const DiskShape& shape, uint64_t hot_rows = 0, uint32_t width = 1) {
  const DiskIndexFile file(shape);
  OnDisk index(file.path(), "auto", hot_rows);
  const Buffer queries = file.queries(kQueries);
  const DiskSearchParams params{
      .k = kK, .window = kWindow, .threads = 1, .deterministic = true, .reads = width};
  const MatrixView view = rows_of(queries, shape, kQueries);
  const DiskAnswers answers = index.search(view, params);
  for (size_t q = 0; q < kQueries; ++q) {
    const Answer plain = PlainWalk(file.parts(), index.terrain().hot, kK, kWindow, width,
                                   static_cast<const std::byte*>(view.row(q)))
                             .run();
    for (size_t i = 0; i < kK; ++i) {
      CHECK_EQ(answers.ids[q * kK + i], plain.ids[i]);
      CHECK_EQ(answers.distances[q * kK + i], plain.distances[i]);
    }
    if (hot_rows == 0 && index.terrain().points.shape().coupled)
      CHECK_EQ(answers.costs[q].reads, plain.reads);
  }
}

TEST(answers_are_those_of_a_plain_walk) {
  for (const uint32_t width : {1u, 4u, 9u}) check_against_plain_walk({}, 0, width);
  check_against_plain_walk({.metric = Metric::cosine, .ids = true});
  check_against_plain_walk({.metric = Metric::ip});
  check_against_plain_walk({.dtype = Dtype::i8, .ids = true});
  check_against_plain_walk({.count = 700, .dim = 600, .pq_bytes = 32});    // one record per page
  check_against_plain_walk({.count = 600, .dim = 1'010, .pq_bytes = 32});  // rows apart
  check_against_plain_walk({.count = 400, .dim = 1'500, .pq_bytes = 32});  // two pages each
}

TEST(rows_in_memory_change_no_more_than_the_reads) {
  check_against_plain_walk({.hot = 300}, 300);
  check_against_plain_walk({.ids = true, .hot = 300}, 40);
  check_against_plain_walk({.count = 600, .dim = 1'010, .pq_bytes = 32, .ids = true, .hot = 200},
                           1'000);
  check_against_plain_walk({.count = 500, .hot = 500}, 1'000);  // all of them
}

TEST(every_device_gives_the_same_answers_and_reads) {
  const DiskIndexFile file({.ids = true, .hot = 100});
  const Buffer queries = file.queries(kQueries);
  const MatrixView view = rows_of(queries, file.shape(), kQueries);
  for (const uint32_t reads : {0u, 1u, 32u}) {
    const DiskSearchParams params{
        .k = kK, .window = 60, .threads = 1, .deterministic = true, .reads = reads};
    const DiskAnswers expected = OnDisk(file.path(), "auto", 50).search(view, params);
    for (const char* device :
         {"pread", "simulated:latency_us=100", "simulated:reorder=1,seed=1",
          "simulated:reorder=1,seed=2,iops=20000", "simulated:reorder=1,short_rate=0.2"}) {
      const DiskAnswers answers = OnDisk(file.path(), device, 50).search(view, params);
      CHECK(answers.ids == expected.ids);
      CHECK(answers.distances == expected.distances);
      for (size_t q = 0; q < kQueries; ++q) {
        CHECK_EQ(answers.costs[q].reads, expected.costs[q].reads);
        CHECK_EQ(answers.costs[q].rounds, expected.costs[q].rounds);
        CHECK(answers.costs[q].rounds <= answers.costs[q].reads);
      }
    }
  }
}

TEST(threads_change_nothing) {
  const DiskIndexFile file({.ids = true});
  const Buffer queries = file.queries(300);
  const MatrixView view = rows_of(queries, file.shape(), 300);
  OnDisk index(file.path(), "auto");
  const auto with = [&](uint32_t threads) {
    return index.search(view, {.k = kK, .window = 40, .threads = threads, .deterministic = true});
  };
  const DiskAnswers one = with(1), three = with(3);
  CHECK(one.ids == three.ids);
  CHECK(one.distances == three.distances);
  // Nor does the company of others.
  const DiskAnswers alone = index.search(rows_of(queries, file.shape(), 1),
                                         {.k = kK, .window = 40, .deterministic = true});
  CHECK(std::equal(alone.ids.begin(), alone.ids.end(), one.ids.begin()));
}

TEST(recall) {
  const DiskIndexFile file({});
  const Buffer queries = file.queries(kQueries);
  const MatrixView view = rows_of(queries, file.shape(), kQueries);
  for (const bool deterministic : {true, false}) {
    OnDisk index(file.path(), "simulated:reorder=1");
    const DiskAnswers answers =
        index.search(view, {.k = kK, .window = 100, .threads = 20, .deterministic = deterministic});
    double recall = 0;
    for (size_t q = 0; q < kQueries; ++q) {
      std::vector<std::pair<float, int64_t>> all;
      const auto distance = simd::active_kernels().distance_of(Metric::l2, Dtype::f32);
      for (size_t i = 0; i < file.shape().count; ++i) {
        const float* const row = file.parts().vectors.as<float>().data() + i * file.shape().dim;
        all.push_back({distance(view.row(q), row, file.shape().dim), i});
      }
      std::sort(all.begin(), all.end());
      std::vector<int64_t> nearest;
      for (size_t i = 0; i < kK; ++i) nearest.push_back(all[i].second);
      recall += shared(std::span(answers.ids).subspan(q * kK, kK), nearest) / kQueries;
      CHECK(answers.costs[q].rounds < answers.costs[q].reads);
    }
    CHECK(recall > 0.97);
  }
}

TEST(fewer_points_than_asked_for) {
  const DiskIndexFile file({.count = 256, .dim = 4, .degree = 8});
  OnDisk index(file.path(), "auto");
  const Buffer queries = file.queries(1);
  const DiskAnswers answers =
      index.search(rows_of(queries, file.shape(), 1), {.k = 300, .window = 400});
  CHECK_EQ(std::count(answers.ids.begin(), answers.ids.end(), -1), 300 - 256);
  CHECK(std::is_sorted(answers.distances.begin(), answers.distances.end()));
  CHECK(index.search(rows_of(queries, file.shape(), 0), {}).ids.empty());
}

}  // namespace
}  // namespace bigrain
