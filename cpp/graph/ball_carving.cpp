// SPDX-License-Identifier: Apache-2.0
#include "graph/ball_carving.h"

#include <algorithm>

#include "util/rng.h"
#include "util/thread_pool.h"

namespace bigrain::graph {

namespace {

// All measured in bench/LOG.md, "partitioned". Fanout of the second level; 1 past it.
constexpr size_t kSecondFanout = 3;
constexpr size_t kLevels = 2;  // those with balls that overlap
// What balls of the last level hold on average; leaves may be twice that.
constexpr size_t kTypicalLeaf = kMaxLeaf / 2;
// Points per leader of the levels before the last, as in the paper.
constexpr size_t kPointsPerLeader = 200;
// As in the paper; leaders' codes then stay in a level-2 cache up to some 1,000 dimensions.
constexpr size_t kMaxLeaders = 1024;
// Two more than 100 million well-spread points need.
constexpr size_t kMaxLevels = kLevels + 3;
// Points compared with their leaders at a time: about a millisecond.
constexpr size_t kChunk = 256;
constexpr size_t kPollEvery = size_t{1} << 16;
constexpr uint64_t kLeaderStream = 2;  // apart from the rotation's and the insertion order's

// Members [begin, end) of one ball.
struct Chunk {
  size_t ball, begin, end;
};

struct Scratch {
  std::vector<simd::TileRow> rows;
  std::vector<float> distances, kept;
  std::vector<uint32_t> positions;
};

// One level: every ball's leaders, and every member's nearest ones.
struct Level {
  explicit Level(const PointSets& all, size_t width)
      : balls(all), fanout(width), leaders(all.count()), nearest(all.members.size() * width) {}

  const PointSets& balls;
  size_t fanout;
  std::vector<Panels> leaders;
  std::vector<uint16_t> nearest;  // fanout positions among the leaders of its ball per member
};

class Carver {
 public:
  Carver(const TileSource& source, const CarvingParams& params, Monitor& monitor)
      : source_(source), params_(params), monitor_(monitor), scratch_(params.threads) {}

  PointSets run(std::span<const uint32_t> points) {
    PointSets balls, leaves;
    if (!points.empty()) balls.add(points);
    for (size_t level = 0; balls.count() != 0; ++level) {
      balls = take_leaves(balls, level, leaves);
      balls = split(balls, level);
    }
    return leaves;
  }

 private:
  // Moves what is small enough, or will not get smaller, to the leaves; returns the rest.
  static PointSets take_leaves(const PointSets& balls, size_t level, PointSets& leaves) {
    PointSets rest;
    for (size_t i = 0; i < balls.count(); ++i) {
      const std::span<const uint32_t> ball = balls.set(i);
      if (ball.size() > kMaxLeaf && level < kMaxLevels) {
        rest.add(ball);
        continue;
      }
      for (size_t begin = 0; begin < ball.size(); begin += kMaxLeaf) {
        leaves.add(ball.subspan(begin, std::min(kMaxLeaf, ball.size() - begin)));
      }
    }
    return rest;
  }

  size_t fanout_of(size_t depth) const {
    return depth == 0 ? params_.fanout : depth < kLevels ? kSecondFanout : 1;
  }

  PointSets split(const PointSets& balls, size_t depth) {
    Level level(balls, fanout_of(depth));
    parallel_for(balls.count(), 1, params_.threads, monitor_,
                 [&](size_t begin, size_t end, uint32_t) {
                   for (size_t i = begin; i < end; ++i) {
                     level.leaders[i].pack(source_, choose_leaders(balls.set(i), depth, i));
                   }
                 });
    std::vector<Chunk> chunks;
    for (size_t i = 0; i < balls.count(); ++i) {
      const size_t size = balls.set(i).size();
      for (size_t begin = 0; begin < size; begin += kChunk) {
        chunks.push_back({i, begin, std::min(begin + kChunk, size)});
      }
    }
    parallel_for(chunks.size(), 1, params_.threads, monitor_,
                 [&](size_t begin, size_t end, uint32_t worker) {
                   for (size_t i = begin; i < end; ++i) {
                     find_nearest(level, chunks[i], scratch_[worker]);
                   }
                 });
    PointSets next;
    for (size_t i = 0; i < balls.count(); ++i) gather_balls(level, i, next);
    return next;
  }

  // One from each of so many equal runs of the ball's ids.
  std::vector<uint32_t> choose_leaders(std::span<const uint32_t> ball, size_t depth,
                                       size_t index) const {
    const size_t fanout = fanout_of(depth);
    const size_t wanted =
        depth + 1 < kLevels ? ball.size() / kPointsPerLeader : ball.size() * fanout / kTypicalLeaf;
    std::vector<uint32_t> leaders(std::clamp(wanted, fanout + 1, kMaxLeaders));
    Rng rng(params_.seed, kLeaderStream + (uint64_t{depth} << 40) + (uint64_t{index} << 8));
    for (size_t i = 0; i < leaders.size(); ++i) {
      const size_t from = i * ball.size() / leaders.size();
      const size_t to = (i + 1) * ball.size() / leaders.size();
      leaders[i] = ball[from + rng.bounded(to - from)];
    }
    return leaders;
  }

  void find_nearest(Level& level, const Chunk& chunk, Scratch& s) const {
    const Panels& leaders = level.leaders[chunk.ball];
    const size_t first = level.balls.starts[chunk.ball] + chunk.begin;
    s.rows.clear();
    for (uint32_t point :
         level.balls.set(chunk.ball).subspan(chunk.begin, chunk.end - chunk.begin)) {
      s.rows.push_back(source_.row(point));
    }
    s.distances.resize(s.rows.size() * leaders.columns());
    s.kept.resize(level.fanout);
    s.positions.resize(level.fanout);
    leaders.distances(source_, s.rows, s.distances.data());
    for (size_t i = 0; i < s.rows.size(); ++i) {
      source_.kernels().smallest(&s.distances[i * leaders.columns()], leaders.columns(),
                                 level.fanout, s.kept.data(), s.positions.data());
      std::copy(s.positions.begin(), s.positions.end(),
                level.nearest.begin() + static_cast<ptrdiff_t>((first + i) * level.fanout));
    }
  }

  // Appends the balls around one ball's leaders, members in the order that they had.
  void gather_balls(const Level& level, size_t ball, PointSets& next) const {
    const std::span<const uint32_t> points = level.balls.set(ball);
    const uint16_t* const nearest = &level.nearest[level.balls.starts[ball] * level.fanout];
    const size_t memberships = points.size() * level.fanout;
    std::vector<size_t> places(level.leaders[ball].count() + 1, 0);
    for (size_t i = 0; i < memberships; ++i) ++places[nearest[i] + size_t{1}];
    places[0] = next.members.size();
    for (size_t l = 1; l < places.size(); ++l) {
      places[l] += places[l - 1];
      if (places[l] != places[l - 1]) next.starts.push_back(places[l]);
    }
    next.members.resize(places.back());
    for (size_t i = 0; i < memberships; ++i) {
      if (i % kPollEvery == 0) monitor_.check();
      next.members[places[nearest[i]]++] = points[i / level.fanout];
    }
  }

  const TileSource& source_;
  const CarvingParams& params_;
  Monitor& monitor_;
  std::vector<Scratch> scratch_;
};

}  // namespace

PointSets carve(const TileSource& source, std::span<const uint32_t> points,
                const CarvingParams& params, Monitor& monitor) {
  return Carver(source, params, monitor).run(points);
}

}  // namespace bigrain::graph
