// SPDX-License-Identifier: Apache-2.0
// What an index has besides its arrays when its vectors, or its rows, too, stay in the file.
#pragma once

#include <memory>
#include <utility>

#include "format/point_file.h"
#include "index/residency.h"
#include "io/reader_pool.h"
#include "search/disk_terrain.h"

namespace bigrain {

class DiskPoints {
 public:
  DiskPoints(format::PointFile points, io::BlockFile file, Residency residency)
      : points_(std::move(points)), readers_(std::move(file)), residency_(std::move(residency)) {}

  const format::PointFile& points() const { return points_; }
  io::ReaderPool& readers() const { return readers_; }
  const Residency& residency() const { return residency_; }
  // Null where rows are in memory.
  const search::DiskTerrain* terrain() const { return terrain_.get(); }

  // Of the vectors, where rows are in memory.
  const search::HotRows& hot() const { return hot_; }

  // Only vectors stay in the file: reads those that there is room for, and drops what only walks
  // over PQ codes read.
  void keep_vectors(IndexParts& parts);
  // Rows stay in the file: prepares walks, reads hot rows, and drops what only memory's walks read.
  // `parts` is borrowed.
  void leave_rows(IndexParts& parts);

 private:
  format::PointFile points_;
  mutable io::ReaderPool readers_;  // which says itself that it is safe to share
  Residency residency_;
  std::unique_ptr<search::DiskTerrain> terrain_;
  search::HotRows hot_;
};

}  // namespace bigrain
