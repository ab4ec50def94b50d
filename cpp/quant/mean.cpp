// SPDX-License-Identifier: Apache-2.0
#include "quant/mean.h"

#include <algorithm>
#include <vector>

#include "util/thread_pool.h"

namespace bigrain::quant {

namespace {

// Rows summed by one task; part of the result's definition, since float sums depend on grouping.
constexpr size_t kBlock = 1024;
// Blocks whose sums are kept at one time: bounds the memory at large dimensions.
constexpr size_t kStripe = 64;

}  // namespace

void RunningMean::add(size_t count, const LoadRow& load, uint32_t threads, Monitor& monitor) {
  const size_t dim = sums_.size();
  std::vector<double> partial(std::min(count / kBlock + 2, kStripe) * dim);
  for (size_t from = 0; from < count;) {
    // Blocks are those of all rows: the first one here may have begun earlier.
    const size_t before = count_ % kBlock;
    const size_t rows = std::min(count - from, kStripe * kBlock - before);
    const size_t blocks = (before + rows + kBlock - 1) / kBlock;
    std::fill(partial.begin(), partial.end(), 0.0);
    std::copy(open_.begin(), open_.end(), partial.begin());
    parallel_for(blocks, 1, threads, monitor, [&](size_t begin, size_t end, uint32_t) {
      std::vector<float> x(dim);
      for (size_t block = begin; block < end; ++block) {
        double* const sum = partial.data() + block * dim;
        const size_t first = block == 0 ? 0 : block * kBlock - before;
        for (size_t i = first; i < std::min(rows, (block + 1) * kBlock - before); ++i) {
          load(from + i, x);
          for (size_t j = 0; j < dim; ++j) sum[j] += x[j];
        }
      }
    });
    count_ += rows;
    from += rows;
    const size_t whole = (before + rows) / kBlock;
    for (size_t block = 0; block < whole; ++block) {
      for (size_t j = 0; j < dim; ++j) sums_[j] += partial[block * dim + j];
    }
    std::fill(open_.begin(), open_.end(), 0.0);
    if (whole < blocks) std::copy_n(&partial[whole * dim], dim, open_.begin());
  }
}

void RunningMean::finish(std::span<float> mean) {
  const double divisor = static_cast<double>(std::max<size_t>(count_, 1));
  for (size_t j = 0; j < mean.size(); ++j) {
    mean[j] = static_cast<float>((sums_[j] + open_[j]) / divisor);
  }
}

void mean_of_rows(size_t count, const LoadRow& load, uint32_t threads, Monitor& monitor,
                  std::span<float> mean) {
  RunningMean running(mean.size());
  running.add(count, load, threads, monitor);
  running.finish(mean);
}

}  // namespace bigrain::quant
