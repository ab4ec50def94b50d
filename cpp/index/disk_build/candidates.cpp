// SPDX-License-Identifier: Apache-2.0
#include "index/disk_build/candidates.h"

#include <algorithm>

#include "graph/partitioned.h"
#include "graph/vamana.h"
#include "index/build_rules.h"
#include "util/rng.h"
#include "util/thread_pool.h"

namespace bigrain::disk_build {

namespace {

constexpr size_t kPollEvery = 4096;

// Near ones that a list holds: two lists together give more than RobustPrune is offered
// (graph/partitioned.h). bench/LOG.md, "out-of-core build".
size_t list_near(uint32_t degree) { return graph::near_capacity(degree); }

// Far ones matter where points lie in tight clusters; all shards together give as many as one build
// in memory, nearly.
size_t list_far(uint32_t degree) { return std::max<size_t>(degree / 4, 1); }

class ListWriter {
 public:
  ListWriter(const Homes& homes, io::File file, size_t buffer)
      : homes_(homes), stream_(std::move(file), buffer) {}

  void append(uint32_t place, uint32_t leader, std::span<const uint32_t> near,
              std::span<const uint32_t> far) {
    while (homes_.begin(offsets_.size()) <= place) offsets_.push_back(stream_.size());
    const ListHeader header{place, leader, static_cast<uint16_t>(near.size()),
                            static_cast<uint16_t>(far.size())};
    stream_.append(&header, sizeof header);
    stream_.append(near.data(), near.size_bytes());
    stream_.append(far.data(), far.size_bytes());
  }

  void finish() {
    while (offsets_.size() <= homes_.count()) offsets_.push_back(stream_.size());
    stream_.append(offsets_.data(), offsets_.size() * sizeof(uint64_t));
    stream_.finish();
  }

 private:
  const Homes& homes_;
  io::AppendStream stream_;
  std::vector<uint64_t> offsets_;  // bytes, by home
};

// Places of candidates that are numbered within the shard.
void to_places(const std::vector<search::ScoredId>& scored, size_t most,
               std::span<const uint32_t> places, std::vector<uint32_t>& out) {
  out.clear();
  for (size_t i = 0; i < std::min(scored.size(), most); ++i) out.push_back(places[scored[i].id]);
}

void write_met(std::span<const uint32_t> places, const graph::Meeting& meeting, uint32_t degree,
               ListWriter& to, Monitor& monitor) {
  std::vector<uint32_t> leaders(places.begin(), places.end()), near_places, far_places;
  for (const graph::Edge& edge : meeting.copies.others) leaders[edge.source] = places[edge.target];
  std::vector<search::ScoredId> near, far;
  for (uint32_t i = 0; i < places.size(); ++i) {
    if (i % kPollEvery == 0) monitor.check();
    near.clear();
    far.clear();
    if (leaders[i] == places[i]) meeting.read(i, near, far);
    to_places(near, list_near(degree), places, near_places);
    to_places(far, far.size(), places, far_places);
    to.append(places[i], leaders[i], near_places, far_places);
  }
}

// Rows of a graph are candidates as well.
void write_rows(std::span<const uint32_t> places, const Buffer& rows, uint32_t degree,
                ListWriter& to) {
  std::vector<uint32_t> near;
  for (uint32_t i = 0; i < places.size(); ++i) {
    near.clear();
    for (const uint32_t id : rows.as<uint32_t>().subspan(size_t{i} * degree, degree)) {
      if (id == i) break;
      near.push_back(places[id]);
    }
    to.append(places[i], places[i], near, {});
  }
}

}  // namespace

std::string lists_name(size_t shard) { return "lists-" + std::to_string(shard); }

void write_candidates(size_t shard, std::span<const uint32_t> places, const Buffer& codes,
                      const Homes& homes, const CandidateParams& params, const Budget& budget,
                      const simd::Kernels& kernels, WorkFolder& work, Monitor& monitor) {
  ListWriter lists(homes, work.create(lists_name(shard)), budget.buffers() / 2);
  const graph::CodeDistances distances{{codes.data(), code_stride(params.dim)},
                                       kernels.score_codes,
                                       params.build.metric == Metric::ip};
  const graph::VamanaParams link{params.degree, shard_width(params.build), params.alpha,
                                 mix64(params.build.seed ^ shard),
                                 resolve_threads(params.build.threads)};
  // Who stands for others is the first of them, or where searches start.
  const auto at = std::lower_bound(places.begin(), places.end(), params.entry);
  const bool has_entry = at != places.end() && *at == params.entry;
  const auto entry = static_cast<uint32_t>(has_entry ? at - places.begin() : 0);
  if (places.empty()) {
    // Nobody is near its centre.
  } else if (is_partitioned(params.build, kPartitionedFrom, params.dim)) {
    monitor.start(places.size());
    const graph::Meeting meeting =
        graph::meet_points(distances, kernels, params.dim, places.size(), entry, link,
                           list_far(params.degree), monitor);
    write_met(places, meeting, params.degree, lists, monitor);
  } else {
    const Buffer rows = graph::build_vamana(distances, places.size(), entry, link, monitor);
    write_rows(places, rows, params.degree, lists);
  }
  lists.finish();
}

ListReader::ListReader(const WorkFolder& work, size_t shard, size_t shards, size_t home,
                       size_t buffer)
    : file_(work.open(lists_name(shard))), left_(0), stream_(file_, 0, 0, 0) {
  const uint64_t size = file_.info().size, directory = (shards + 1) * sizeof(uint64_t);
  uint64_t range[2] = {};
  if (size < directory ||
      file_.read(size - directory + home * sizeof(uint64_t), range, sizeof range) != sizeof range) {
    throw Error::corrupt("'" + file_.path() + "' is damaged; begin anew with clean");
  }
  left_ = range[1] - range[0];
  stream_ = io::ReadStream(file_, range[0], range[1], std::min<uint64_t>(buffer, left_));
}

const ListHeader* ListReader::peek() {
  if (!has_header_) {
    if (left_ == 0) return nullptr;
    stream_.read(&header_, sizeof header_);
    left_ -= sizeof header_;
    has_header_ = true;
  }
  return &header_;
}

void ListReader::take(std::vector<uint32_t>& near, std::vector<uint32_t>& far) {
  const size_t nears = near.size(), fars = far.size();
  near.resize(nears + header_.near);
  far.resize(fars + header_.far);
  stream_.read(near.data() + nears, header_.near * sizeof(uint32_t));
  stream_.read(far.data() + fars, header_.far * sizeof(uint32_t));
  left_ -= (size_t{header_.near} + header_.far) * sizeof(uint32_t);
  has_header_ = false;
}

}  // namespace bigrain::disk_build
