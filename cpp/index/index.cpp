// SPDX-License-Identifier: Apache-2.0
#include "bigrain/index.h"

#include <string>

#include "format/parts.h"
#include "quant/neighbour_blocks.h"
#include "util/monitor.h"
#include "util/thread_pool.h"

namespace bigrain {

Index::Index(std::unique_ptr<IndexParts> parts) : parts_(std::move(parts)) {}
Index::Index(Index&&) noexcept = default;
Index& Index::operator=(Index&&) noexcept = default;
Index::~Index() = default;

std::span<const TunePoint> Index::tuning() const { return parts_->tuning; }

void Index::set_tuning(std::vector<TunePoint> points) {
  for (size_t i = 0; i < points.size(); ++i) {
    const TunePoint& point = points[i];
    const bool in_range = point.k >= kMinK && point.k <= kMaxK && point.width >= kMinWidth &&
                          point.width <= kMaxWidth && point.recall >= 0 && point.recall <= 1 &&
                          point.rerank <= kMaxWidth;
    const bool sorted = i == 0 || points[i - 1].k < point.k ||
                        (points[i - 1].k == point.k && points[i - 1].width < point.width);
    if (!in_range || !sorted) {
      throw Error::invalid("tuning: point " + std::to_string(i) +
                           " is out of range or order; expected ascending (k, width) and recall "
                           "from 0 to 1");
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
    quant::make_blocks(*parts_, resolve_threads(threads), monitor);
  }
}

}  // namespace bigrain
