// SPDX-License-Identifier: Apache-2.0
#include "index/disk_points.h"

#include <vector>

namespace bigrain {

void DiskPoints::leave_rows(IndexParts& parts) {
  terrain_ = std::make_unique<search::DiskTerrain>(parts, points_);
  if (residency_.hot_rows > 0) {
    search::PageReader reader(points_, readers_, search::kPagesUnderWay);
    const std::vector<uint32_t> points = search::hottest_points(parts, residency_.hot_rows);
    terrain_->hot = search::load_hot(points_, points, search::hot_row(points_.shape()), reader);
  }
  for (Buffer* buffer : {&parts.hot, &parts.pq_rotation, &parts.pq_codebooks, &parts.signs,
                         &parts.scales, &parts.projection}) {
    *buffer = {};
  }
}

void DiskPoints::keep_vectors(IndexParts& parts) {
  if (residency_.hot_vectors > 0) {
    search::PageReader reader(points_, readers_, search::kPagesUnderWay);
    const std::vector<uint32_t> points = search::hottest_points(parts, residency_.hot_vectors);
    hot_ = search::load_hot(points_, points, search::hot_vector(points_.shape()), reader);
  }
  for (Buffer* buffer : {&parts.hot, &parts.pq_rotation, &parts.pq_codebooks}) *buffer = {};
}

}  // namespace bigrain
