// SPDX-License-Identifier: Apache-2.0
// build_to: the steps of a build that holds neither the vectors nor the graph.
//
// DiskANN's plan (NeurIPS 2019, section 3.3): overlapping shards that fit into memory, a graph of
// each, a merge. Steps:
//   1. one pass over the vectors: mean, and a sample that decides codes and shards (model.h);
//   2. a second pass: codes, by nearest shard, and which further shards hold a point (scatter.h);
//   3. per shard, candidates of every point by the partitioned build (candidates.h);
//   4. per shard, RobustPrune of the points that are at home in it over the candidates of all of
//      their shards, and the edges back (links.h);
//   5. rows in the order of the vectors, copies tied, unreachable points attached (row_file.h);
//   6. the index file (write_index.h).
// What differs: shards are made of 8-bit codes instead of vectors, written in one pass; candidates
// are merged before anything is pruned, so that each point is pruned once and by all distances, and
// the result is the graph of the build in memory but for neighbours that share no shard; a shard
// that is full sends points on, so that no set of vectors needs more memory than was allowed; all
// is seeded. Each step leaves its files and a line in the manifest, and is done anew as a whole, a
// shard of step 3 by itself, when a build goes on after it was interrupted.
#include "bigrain/build_to.h"

#include <algorithm>
#include <cerrno>
#include <string>

#include "bigrain/index.h"
#include "format/file_writer.h"
#include "graph/partitioned.h"
#include "graph/vamana.h"
#include "index/build_rules.h"
#include "index/disk_build/budget.h"
#include "index/disk_build/candidates.h"
#include "index/disk_build/links.h"
#include "index/disk_build/measure.h"
#include "index/disk_build/model.h"
#include "index/disk_build/row_file.h"
#include "index/disk_build/row_reader.h"
#include "index/disk_build/scatter.h"
#include "index/disk_build/shard.h"
#include "index/disk_build/work_folder.h"
#include "index/disk_build/write_index.h"
#include "io/bucket_file.h"
#include "util/crc32c.h"
#include "util/phase.h"
#include "util/rng.h"
#include "util/thread_pool.h"

namespace bigrain {

namespace disk_build {

namespace {

// How long the steps take, in parts of 100 (bench/LOG.md, "out-of-core build").
constexpr uint64_t kLearn = 3, kScatter = 7, kCandidates = 50, kForward = 18, kBack = 12,
                   kOrder = 3, kWrite = 7, kAll = 100;

class DiskBuild {
 public:
  DiskBuild(io::FileSystem& files, const std::string& path, const VectorFile& vectors,
            std::span<const int64_t> ids, const BuildParams& params, const DiskBuildParams& disk,
            Monitor& monitor)
      : files_(files),
        path_(path),
        ids_(ids),
        params_(params),
        disk_(disk),
        monitor_(monitor),
        kernels_(simd::active_kernels()),
        reader_(files, vectors),
        budget_(disk.memory, vectors),
        work_(files, disk.work, identity(), disk.clean) {}

  uint64_t run() {
    // Points, so that a bar shows what the user knows; a step's share of them.
    monitor_.start(reader_.vectors().rows);
    Model model = learned();
    check_space(model);
    const uint32_t entry = scattered(model);
    model.parts->meta.entry = entry;
    model.parts->meta.count = reader_.vectors().rows;
    RowFile rows = model.router.count() == 1 ? single_shard(model) : merged(model, entry);
    Phase phase(monitor_, share(kWrite));
    measure(*model.parts, rows, phase.monitor());
    const uint64_t bytes = write_index(files_, path_, *model.parts, ids_, reader_, rows, work_,
                                       std::min<size_t>(budget_.buffers() / 2, format::kBlockBytes),
                                       resolve_threads(params_.threads), phase.monitor());
    phase.finish();
    work_.remove_all();
    return bytes;
  }

 private:
  void measure(IndexParts& parts, const RowFile& rows, Monitor& monitor) {
    const size_t row = rows.stride() * sizeof(uint32_t);
    measure_bound(parts, reader_, rows, budget_.sorting(), kernels_, monitor);
    if (parts.meta.pq_bytes != 0) {
      choose_hot_rows(parts, rows, budget_.buffers() / row, monitor);
    }
  }

  uint64_t share(uint64_t parts) const { return reader_.vectors().rows * parts / kAll; }

  Identity identity() const {
    const VectorFile& v = reader_.vectors();
    const auto text = [](auto value) { return std::to_string(value); };
    return {{"vectors", v.path},
            {"rows", text(v.rows)},
            {"dim", text(v.dim)},
            {"dtype", name_of(v.dtype)},
            {"offset", text(v.offset)},
            {"stride", text(v.row_stride)},
            {"fingerprint", text(fingerprint())},
            {"ids", ids_.empty() ? "none" : text(crc32c(ids_.data(), ids_.size_bytes()))},
            {"metric", name_of(params_.metric)},
            {"builder", text(static_cast<int>(params_.builder))},
            {"degree", text(params_.degree)},
            {"build_width", text(params_.build_width)},
            {"alpha", text(alpha_of(params_))},
            {"code_dim", text(params_.code_dim)},
            {"pq_bytes", text(params_.pq_bytes)},
            {"train_queries", text(queries_sum())},
            {"seed", text(params_.seed)},
            {"memory", text(disk_.memory)}};
  }

  uint32_t queries_sum() const {
    const MatrixView& q = params_.train_queries;
    return q.rows == 0 ? 0 : crc32c(q.data, q.rows * q.dim * item_size(q.dtype));
  }

  Model learned() {
    Phase phase(monitor_, share(kLearn));
    if (!work_.done("learn")) {
      const Model model = learn(reader_, params_, budget_, kernels_, phase.monitor());
      save_model(model, work_);
      work_.set_done("learn");
    }
    phase.finish();
    return load_model(work_, kernels_);
  }

  // Tells a file that was written to meanwhile.
  uint64_t fingerprint() const {
    io::FileInfo info;
    const int returned = files_.stat(reader_.vectors().path, &info);
    if (returned < 0) throw io::io_error(-returned, "examine", reader_.vectors().path);
    return mix64(info.modified) ^ info.size;
  }

  void check_space(const Model& model) const {
    IndexMeta meta = model.parts->meta;
    meta.count = reader_.vectors().rows;
    const uint64_t needed = work_bytes(reader_.vectors(), meta.degree, code_stride(meta.code_dim),
                                       model.router.count()) +
                            index_bytes(meta, model.parts->trials.size(), 0, !ids_.empty());
    const uint64_t used = work_.used_bytes();
    uint64_t free = 0;
    if (files_.free_bytes(work_.path(), &free) < 0 || free >= needed - std::min(needed, used)) {
      return;
    }
    throw Error::io(ENOSPC, work_.path(),
                    "the build needs " + std::to_string(needed - std::min(needed, used)) +
                        " bytes in '" + work_.path() + "' and beside it, " + std::to_string(free) +
                        " are free; make room, or give another work folder");
  }

  uint32_t scattered(const Model& model) {
    Phase phase(monitor_, share(kScatter));
    if (!work_.done("scatter")) {
      const uint32_t entry =
          scatter(reader_, model, params_, budget_, kernels_, work_, phase.monitor());
      if (model.router.count() > 1) work_.set_done("homes");
      work_.set_done("scatter", entry);
    }
    phase.finish();
    return static_cast<uint32_t>(*work_.done("scatter"));
  }

  // All points fit: the build in memory, on codes alone.
  RowFile single_shard(const Model& model) {
    const IndexMeta& meta = model.parts->meta;
    Phase phase(monitor_, share(kCandidates + kForward + kBack + kOrder));
    if (!work_.done("graph")) {
      Buffer codes(meta.count * code_stride(meta.code_dim));
      const io::File file = work_.open("records");
      file.read(0, codes.data(), codes.size());
      const graph::CodeDistances distances{{codes.data(), code_stride(meta.code_dim)},
                                           kernels_.score_codes,
                                           meta.metric == Metric::ip};
      const graph::VamanaParams link{meta.degree, params_.build_width, meta.alpha, params_.seed,
                                     resolve_threads(params_.threads)};
      const Buffer graph =
          is_partitioned(params_, meta.count, meta.dim)
              ? graph::build_partitioned(distances, kernels_, meta.code_dim, meta.count, meta.entry,
                                         link, phase.monitor())
              : graph::build_vamana(distances, meta.count, meta.entry, link, phase.monitor());
      RowFile rows(work_.create("graph"), meta.count, meta.degree);
      rows.write_block(0, graph.as<uint32_t>());
      rows.sync();
      work_.set_done("graph");
    }
    phase.finish();
    return RowFile(work_.open("graph"), meta.count, meta.degree);
  }

  RowFile merged(const Model& model, uint32_t entry) {
    const IndexMeta& meta = model.parts->meta;
    MemberCounts counts = load_counts(work_, model.router.count());
    const Homes homes(counts);
    const std::vector<uint32_t> ids = load_ids(work_, homes);
    const auto place = std::find(ids.begin(), ids.end(), entry) - ids.begin();
    const CandidateParams params{params_, meta.degree, meta.alpha, meta.code_dim,
                                 static_cast<uint32_t>(place)};
    const LinkJob job{params, counts, homes, ids, budget_, kernels_};
    find_candidates(job);
    step("forward", kForward, [&](Monitor& m) { link_forward(job, work_, m); });
    for (size_t shard = 0; shard < homes.count(); ++shard) work_.remove(lists_name(shard));
    step("back", kBack, [&](Monitor& m) { link_back(job, work_, m); });
    for (const char* name : {"members", "forward", "edges"}) work_.remove(name);
    step("graph", kOrder, [&](Monitor& m) {
      RowFile rows = order_rows(job, work_, m);
      attach_followers(job, work_, rows, m);
      join_hubs(job, work_, rows, m);
      repair_rows(rows, entry, budget_.sorting() / (meta.degree * sizeof(uint32_t)), m);
      rows.sync();
    });
    work_.remove("rows");
    return RowFile(work_.open("graph"), meta.count, meta.degree);
  }

  template <class Body>
  void step(const char* name, uint64_t parts, Body body) {
    Phase phase(monitor_, share(parts));
    if (!work_.done(name)) {
      body(phase.monitor());
      work_.set_done(name);
    }
    phase.finish();
  }

  void find_candidates(const LinkJob& job) {
    const uint64_t all = kCopies * uint64_t{job.homes.points()};
    uint64_t before = 0;
    for (size_t shard = 0; shard < job.homes.count(); ++shard) {
      const uint64_t after = before + job.counts.members(shard);
      Phase phase(monitor_, share(kCandidates) * after / all - share(kCandidates) * before / all);
      before = after;
      if (!work_.done(lists_name(shard)) && !work_.done("forward")) {
        const io::BucketReader members(work_.open("members"));
        const std::vector<uint32_t> places = load_members(members, job.counts, job.homes, shard);
        const Buffer codes = load_codes(job.homes, places, phase.monitor());
        write_candidates(shard, places, codes, job.homes, job.params, budget_, kernels_, work_,
                         phase.monitor());
        work_.set_done(lists_name(shard));
      }
      phase.finish();
    }
  }

  Buffer load_codes(const Homes& homes, const std::vector<uint32_t>& places,
                    Monitor& monitor) const {
    const io::BucketReader codes(work_.open("codes"));
    Gathered gathered(homes, codes);
    for (const uint32_t place : places) gathered.mark(place);
    gathered.load(monitor);
    return gathered.take_codes();
  }

  io::FileSystem& files_;
  std::string path_;
  std::span<const int64_t> ids_;
  const BuildParams& params_;
  const DiskBuildParams& disk_;
  Monitor& monitor_;
  const simd::Kernels& kernels_;
  RowReader reader_;
  Budget budget_;
  WorkFolder work_;
};

void check_memory(const VectorFile& vectors, const BuildParams& params, uint64_t memory) {
  const uint64_t least = least_build_memory(vectors, params);
  if (memory >= least) return;
  throw Error::invalid("memory: got " + std::to_string(memory) + " bytes; expected at least " +
                       std::to_string(least) + " for " + std::to_string(vectors.rows) +
                       " vectors of dimension " + std::to_string(vectors.dim));
}

}  // namespace

}  // namespace disk_build

// "No limit" stays a number that can be multiplied.
constexpr uint64_t kMostMemory = uint64_t{1} << 46;

uint64_t build_to(io::FileSystem& files, const std::string& path, const VectorFile& vectors,
                  std::span<const int64_t> ids, const BuildParams& params,
                  const DiskBuildParams& disk, Monitor& monitor) {
  check_build(vectors.rows, vectors.dim, params);
  check_queries(vectors.dim, vectors.dtype, params.train_queries);
  if (!ids.empty()) check_ids(ids);
  if (vectors.rows == 0) {
    return Index::build({nullptr, 0, vectors.dim, vectors.dtype}, nullptr, params, monitor)
        .save(path, monitor);
  }
  DiskBuildParams limited = disk;
  limited.memory = std::min(disk.memory, kMostMemory);
  if (disk.memory == 0) limited.memory = least_build_memory(vectors, params);
  disk_build::check_memory(vectors, params, limited.memory);
  return disk_build::DiskBuild(files, path, vectors, ids, params, limited, monitor).run();
}

}  // namespace bigrain
