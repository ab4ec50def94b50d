// SPDX-License-Identifier: Apache-2.0
#include "graph/partitioned.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "graph/ball_carving.h"
#include "graph/leaf_neighbours.h"
#include "graph/linker.h"
#include "graph/repair.h"
#include "util/thread_pool.h"

namespace bigrain::graph {

namespace {

// Far ones of points in tight clusters: one from each leaf, near enough (bench/LOG.md, "copies").
size_t far_of(uint32_t degree) { return degree; }

// All in bench/LOG.md, "partitioned". Balls of the first level per point: 10 at the default width.
uint32_t fanout_of(uint32_t width) {
  constexpr uint32_t kWidthPerBall = 12, kLeast = 2;
  return std::clamp<uint32_t>(width / kWidthPerBall, kLeast, simd::kSmallestMax);
}

// Neighbours that a point takes from a leaf; of one that is alone, as many as the kernel finds.
constexpr size_t kNearest = 5, kNearestOfOne = simd::kSmallestMax;

// Progress is the share of the leaves, in points, and then the points linked.
Met meet(const TileSource& source, const PointSets& leaves, size_t count, uint32_t entry,
         const VamanaParams& params, size_t far, uint32_t threads, Monitor& monitor) {
  Met met(count, near_capacity(params.degree), far, entry);
  const size_t nearest = leaves.count() == 1 ? kNearestOfOne : kNearest;
  std::vector<std::unique_ptr<LeafNeighbours>> workers(threads);
  parallel_for(leaves.count(), 1, threads, monitor, [&](size_t begin, size_t end, uint32_t index) {
    if (!workers[index]) workers[index] = std::make_unique<LeafNeighbours>(source, nearest, met);
    for (size_t i = begin; i < end; ++i) {
      workers[index]->offer(leaves.set(i));
      monitor.advance((i + 1) * count / leaves.count() - i * count / leaves.count());
    }
  });
  return met;
}

PointSets cut(const CodeDistances& distances, const simd::Kernels& kernels, size_t dim,
              size_t count, const std::vector<uint32_t>& points, const CarvingParams& params,
              Monitor& monitor) {
  const TileSource source(distances, kernels, dim, count, Geometry::euclidean, params.threads,
                          monitor);
  return carve(source, points, params, monitor);
}

}  // namespace

void Meeting::read(uint32_t point, std::vector<search::ScoredId>& near,
                   std::vector<search::ScoredId>& far) const {
  const auto follows = [&](const search::ScoredId& candidate) {
    return met.leaders.of(candidate.id) != candidate.id;
  };
  near.clear();
  far.clear();
  met.near.read(point, near);
  met.far.read(point, far);
  std::erase_if(near, follows);
  std::erase_if(far, follows);
}

Meeting meet_points(const CodeDistances& distances, const simd::Kernels& kernels, size_t dim,
                    size_t count, uint32_t entry, const VamanaParams& params, size_t far,
                    Monitor& monitor) {
  const uint32_t threads = resolve_threads(params.threads);
  Copies copies = find_copies(distances.codes, count, entry, threads, monitor);
  const PointSets leaves = cut(distances, kernels, dim, count, copies.firsts,
                               {fanout_of(params.width), params.seed, threads}, monitor);
  const TileSource source(distances, kernels, dim, count, Geometry::graph, threads, monitor);
  Met met = meet(source, leaves, count, entry, params, far, threads, monitor);
  join_followers(met.leaders, copies);
  return {std::move(copies), std::move(met)};
}

Buffer build_partitioned(const CodeDistances& distances, const simd::Kernels& kernels, size_t dim,
                         size_t count, uint32_t entry, const VamanaParams& params,
                         Monitor& monitor) {
  const uint32_t threads = resolve_threads(params.threads);
  monitor.start(2 * count);
  Linker linker(distances, count, {params.degree, params.alpha, threads}, monitor);
  Copies copies;
  {
    Meeting meeting =
        meet_points(distances, kernels, dim, count, entry, params, far_of(params.degree), monitor);
    linker.choose(meeting.copies.firsts, [&](uint32_t point, LinkWorker& w) {
      std::vector<search::ScoredId> far;
      meeting.read(point, w.candidates, far);
      w.candidates.insert(w.candidates.end(), far.begin(), far.end());
      monitor.advance(1);
    });
    copies = std::move(meeting.copies);
  }
  linker.connect();
  Rows rows = linker.finish();
  attach_copies(copies, rows, monitor);
  repair(rows, distances, entry, params.width, monitor);
  return std::move(rows).take();
}

}  // namespace bigrain::graph
