// SPDX-License-Identifier: Apache-2.0
#include "bigrain/index.h"

#include <algorithm>
#include <string>

#include "format/parts.h"
#include "index/disk_points.h"
#include "quant/neighbour_blocks.h"
#include "util/monitor.h"
#include "util/thread_pool.h"

namespace bigrain {

Index::Index(std::unique_ptr<IndexParts> parts) : parts_(std::move(parts)) {}
Index::Index(std::unique_ptr<IndexParts> parts, std::unique_ptr<DiskPoints> disk)
    : parts_(std::move(parts)), disk_(std::move(disk)) {}
Index::Index(Index&&) noexcept = default;
Index& Index::operator=(Index&&) noexcept = default;
Index::~Index() = default;

void Index::require_memory(const char* what) const {
  if (disk_ == nullptr) return;
  throw Error::not_supported(std::string(what) +
                             ": this index was opened with a budget of memory and does not hold "
                             "its vectors; open it with memory=\"all\", or copy its file");
}

const Residency& Index::residency() const {
  static const Residency everything{.budget = kAllMemory, .reason = "no budget was given"};
  return disk_ == nullptr ? everything : disk_->residency();
}

std::string Index::io() const { return disk_ == nullptr ? "" : disk_->readers().file().describe(); }

size_t Index::page_sum_bytes() const {
  return disk_ == nullptr ? 0 : disk_->points().bytes_in_memory();
}

size_t Index::hot_row_bytes() const {
  return disk_ == nullptr || disk_->terrain() == nullptr ? 0 : disk_->terrain()->hot.memory();
}

size_t Index::pq_column_bytes() const {
  return disk_ == nullptr || disk_->terrain() == nullptr ? 0 : disk_->terrain()->space.memory();
}

std::span<const TunePoint> Index::tuning() const { return parts_->tuning; }

void Index::set_tuning(std::vector<TunePoint> points) {
  for (size_t i = 0; i < points.size(); ++i) {
    const TunePoint& point = points[i];
    if (!point.in_range(parts_->meta.metric) || (i > 0 && !ascending(points[i - 1], point))) {
      throw Error::invalid("tuning: point " + std::to_string(i) +
                           " is out of range or order; expected ascending (k, width, rerank, "
                           "slack) and recall from 0 to 1");
    }
  }
  parts_->tuning = std::move(points);
}

Layout Index::layout() const { return parts_->blocks.size() != 0 ? Layout::fast : Layout::compact; }

void Index::set_layout(Layout layout, uint32_t threads, Monitor& monitor) {
  if (threads > kMaxThreads) {
    throw Error::invalid("threads: got " + std::to_string(threads) + "; expected 0 to " +
                         std::to_string(kMaxThreads));
  }
  if (layout == Layout::compact) {
    parts_->blocks = {};
  } else {
    require_memory("layout 'fast'");
    quant::make_blocks(*parts_, resolve_threads(threads), monitor);
  }
}

void Index::set_rows(std::span<const uint32_t> points, const uint32_t* rows) {
  require_memory("tuning without queries");
  const IndexMeta& meta = parts_->meta;
  for (const uint32_t point : points) {
    if (point >= meta.count) {
      throw Error::invalid("points: got " + std::to_string(point) + "; expected below " +
                           std::to_string(meta.count));
    }
  }
  const std::span<uint32_t> graph = parts_->graph.as<uint32_t>();
  for (size_t i = 0; i < points.size(); ++i) {
    std::copy_n(rows + i * meta.degree, meta.degree, &graph[size_t{points[i]} * meta.degree]);
  }
  Monitor unwatched;
  if (layout() == Layout::fast) quant::make_blocks(*parts_, resolve_threads(0), unwatched);
}

}  // namespace bigrain
