// SPDX-License-Identifier: Apache-2.0
// Small indexes in files, opened with PQ codes in memory and the rest on a device, real or
// simulated.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "format/header.h"
#include "format/index_file.h"
#include "graph_fixture.h"
#include "io/block_file.h"
#include "quant/pq_coder.h"
#include "search/disk_search.h"

namespace bigrain::check {

struct DiskShape {
  size_t count = 3'000;
  uint32_t dim = 24, degree = 16, pq_bytes = 0;
  Metric metric = Metric::l2;
  Dtype dtype = Dtype::f32;
  bool ids = false;
  size_t hot = 0;
};

inline Buffer as_dtype(const std::vector<float>& x, Dtype dtype) {
  Buffer buffer(x.size() * item_size(dtype));
  if (dtype == Dtype::f32) {
    std::memcpy(buffer.data(), x.data(), buffer.size());
  } else {
    const std::span<int8_t> values = buffer.as<int8_t>();
    for (size_t i = 0; i < x.size(); ++i) values[i] = static_cast<int8_t>(100 * x[i]);
  }
  return buffer;
}

// An index with everything in memory, and the file of it, which goes with it.
class DiskIndexFile {
 public:
  explicit DiskIndexFile(const DiskShape& shape)
      : shape_(shape),
        path_((std::filesystem::temp_directory_path() /
               ("bigrain-disk-" + std::to_string(getpid()) + "-" + std::to_string(++made_)))
                  .string()) {
    const Buffer vectors = as_dtype(random_vectors(shape.count, shape.dim, shape.dim), shape.dtype);
    std::vector<int64_t> ids(shape.count);
    for (size_t i = 0; i < ids.size(); ++i)
      ids[i] = static_cast<int64_t>(7 * i + 1'000'000'000'000);
    BuildParams params;
    params.metric = shape.metric;
    params.degree = shape.degree;
    params.code_dim = shape.dim;
    params.threads = 1;
    Monitor monitor;
    const Index index = Index::build({vectors.data(), shape.count, shape.dim, shape.dtype},
                                     shape.ids ? ids.data() : nullptr, params, monitor);
    parts_ = format::parse(index.to_bytes(), Verify::full, monitor);
    quant::fit_pq(*parts_, shape.pq_bytes, 1, monitor);
    quant::encode_pq(*parts_, 1, monitor);
    parts_->hot = Buffer(shape.hot * sizeof(uint32_t));
    for (size_t i = 0; i < shape.hot; ++i)
      parts_->hot.as<uint32_t>()[i] = static_cast<uint32_t>(i * shape.count / shape.hot);
    save();
  }
  ~DiskIndexFile() { std::remove(path_.c_str()); }
  DiskIndexFile(const DiskIndexFile&) = delete;
  DiskIndexFile& operator=(const DiskIndexFile&) = delete;

  void save() const {
    Monitor monitor;
    format::save(*parts_, io::posix(), path_, monitor);
  }
  const DiskShape& shape() const { return shape_; }
  const std::string& path() const { return path_; }
  IndexParts& parts() const { return *parts_; }
  // Vectors of the same clusters, none of them in the index.
  Buffer queries(size_t count) const {
    const std::vector<float> all = random_vectors(shape_.count + count, shape_.dim, shape_.dim);
    const auto first = all.begin() + static_cast<ptrdiff_t>(shape_.count * shape_.dim);
    return as_dtype({first, all.end()}, shape_.dtype);
  }

 private:
  static inline int made_ = 0;
  DiskShape shape_;
  std::string path_;
  std::unique_ptr<IndexParts> parts_;
};

struct DiskAnswers {
  std::vector<int64_t> ids;
  std::vector<float> distances;
  std::vector<QueryStats> costs;
};

// The file opened for searches on a device.
class OnDisk {
 public:
  OnDisk(const std::string& path, const std::string& io, uint64_t hot_rows = 0)
      : readers_(io::BlockFile::open(path, io::parse_io_choice(io))) {
    Monitor monitor;
    const format::Keep keep{.graph = false,
                            .vectors = false,
                            .ids = false,
                            .codes = false,
                            .pq_codes = true,
                            .sums = true};
    parts_ = format::open(io::posix(), path, Verify::header, monitor, keep);
    const format::Header header = format::read_header(io::posix(), path);
    uint64_t nodes = 0, fulls = 0;
    for (const format::Section& section : header.layout.sections) {
      if (section.kind == format::SectionKind::nodes) nodes = section.offset;
      if (section.kind == format::SectionKind::fulls) fulls = section.offset;
    }
    points_ =
        std::make_unique<format::PointFile>(path, format::node_shape(header.meta, header.has_ids),
                                            nodes, fulls, std::move(parts_->sums));
    nodes_at_ = nodes;
    terrain_ = std::make_unique<search::DiskTerrain>(*parts_, *points_);
    if (hot_rows == 0) return;
    search::PageReader reader(*points_, readers_, search::kPagesUnderWay);
    terrain_->hot =
        search::load_hot(terrain_->points, search::hottest_points(terrain_->parts, hot_rows),
                         search::hot_row(terrain_->points.shape()), reader);
  }

  const search::DiskTerrain& terrain() const { return *terrain_; }
  uint64_t nodes_at() const { return nodes_at_; }

  DiskAnswers search(const MatrixView& queries, const search::DiskSearchParams& params) {
    Monitor unwatched;
    return search(queries, params, unwatched);
  }
  DiskAnswers search(const MatrixView& queries, const search::DiskSearchParams& params,
                     Monitor& monitor) {
    DiskAnswers answers{std::vector<int64_t>(queries.rows * params.k),
                        std::vector<float>(queries.rows * params.k),
                        std::vector<QueryStats>(queries.rows)};
    search::search_on_disk(*terrain_, readers_, queries, params,
                           {answers.ids.data(), answers.distances.data(), answers.costs.data()},
                           monitor);
    return answers;
  }

 private:
  io::ReaderPool readers_;
  std::unique_ptr<IndexParts> parts_;
  std::unique_ptr<format::PointFile> points_;
  std::unique_ptr<search::DiskTerrain> terrain_;
  uint64_t nodes_at_ = 0;
};

}  // namespace bigrain::check
