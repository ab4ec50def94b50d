// SPDX-License-Identifier: Apache-2.0
// The mean of many rows, with the same bits for every number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "util/monitor.h"

namespace bigrain::quant {

// Writes row `row` as float32.
using LoadRow = std::function<void(size_t row, std::span<float> out)>;

// The same mean of rows that come a few at a time.
class RunningMean {
 public:
  explicit RunningMean(size_t dim) : sums_(dim), open_(dim) {}

  // `load` as in mean_of_rows; its rows are 0 .. count - 1.
  void add(size_t count, const LoadRow& load, uint32_t threads, Monitor& monitor);
  void finish(std::span<float> mean);

 private:
  std::vector<double> sums_;  // of whole blocks
  std::vector<double> open_;  // of the block under way
  size_t count_ = 0;
};

// mean[j] <- the mean of component j over `count` rows; zeros where there are none. `load` is
// called by several threads at a time, once per row. Summed in double by blocks of rows, whose sums
// are added in their order.
void mean_of_rows(size_t count, const LoadRow& load, uint32_t threads, Monitor& monitor,
                  std::span<float> mean);

}  // namespace bigrain::quant
