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

void mean_of_rows(size_t count, const LoadRow& load, uint32_t threads, Monitor& monitor,
                  std::span<float> mean) {
  const size_t dim = mean.size();
  const size_t blocks = (count + kBlock - 1) / kBlock;
  std::vector<double> sums(dim), partial(std::min<size_t>(blocks, kStripe) * dim);
  for (size_t first = 0; first < blocks; first += kStripe) {
    const size_t stripe = std::min(blocks - first, kStripe);
    std::fill(partial.begin(), partial.end(), 0.0);
    parallel_for(stripe, 1, threads, monitor, [&](size_t begin, size_t end, uint32_t) {
      std::vector<float> x(dim);
      for (size_t block = begin; block < end; ++block) {
        double* sum = partial.data() + block * dim;
        const size_t from = (first + block) * kBlock;
        for (size_t i = from; i < std::min<size_t>(count, from + kBlock); ++i) {
          load(i, x);
          for (size_t j = 0; j < dim; ++j) sum[j] += x[j];
        }
      }
    });
    for (size_t block = 0; block < stripe; ++block) {
      for (size_t j = 0; j < dim; ++j) sums[j] += partial[block * dim + j];
    }
  }
  const double divisor = static_cast<double>(std::max<size_t>(count, 1));
  for (size_t j = 0; j < dim; ++j) mean[j] = static_cast<float>(sums[j] / divisor);
}

}  // namespace bigrain::quant
