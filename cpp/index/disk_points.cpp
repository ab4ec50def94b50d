// SPDX-License-Identifier: Apache-2.0
#include "index/disk_points.h"

namespace bigrain {

void DiskPoints::leave_rows(IndexParts& parts) {
  terrain_ = std::make_unique<search::DiskTerrain>(parts, points_);
  if (residency_.hot_rows > 0) {
    search::PageReader reader(points_, readers_, search::kPagesUnderWay);
    search::load_hot_rows(*terrain_, residency_.hot_rows, reader);
  }
  for (Buffer* buffer : {&parts.hot, &parts.pq_rotation, &parts.pq_codebooks, &parts.signs,
                         &parts.scales, &parts.projection}) {
    *buffer = {};
  }
}

}  // namespace bigrain
