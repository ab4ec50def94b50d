// SPDX-License-Identifier: Apache-2.0
// nearest_tile of every table against the sums that its contract spells out: every bit must agree.
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "simd_common.h"

namespace bigrain::simd {
namespace {

// As a caller packs it: groups of rows, k-major, offsets of +infinity past the end.
struct Packed {
  Packed(const Kernels& kernels, const std::vector<float>& centroids,
         const std::vector<float>& offset, size_t dim)
      : groups((offset.size() + kernels.nearest_rows - 1) / kernels.nearest_rows),
        values(groups * kernels.nearest_rows * dim),
        offsets(groups * kernels.nearest_rows, std::numeric_limits<float>::infinity()) {
    const size_t rows = kernels.nearest_rows;
    for (size_t j = 0; j < offset.size(); ++j) {
      offsets[j] = offset[j];
      for (size_t k = 0; k < dim; ++k)
        values[(j / rows * dim + k) * rows + j % rows] = centroids[j * dim + k];
    }
  }
  size_t groups;
  std::vector<float> values, offsets;
};

void check_tile(const NamedTable& table, const std::vector<float>& centroids,
                const std::vector<float>& offset, size_t dim, std::mt19937& random) {
  const size_t cols = table.kernels->nearest_cols;
  std::normal_distribution<float> normal;
  GuardedBuffer memory(dim * cols * sizeof(float));
  float* panel = reinterpret_cast<float*>(memory.last(dim * cols * sizeof(float)));
  for (size_t i = 0; i < dim * cols; ++i) panel[i] = normal(random);
  const Packed packed(*table.kernels, centroids, offset, dim);
  std::vector<float> scores(cols + 1, -1.0f);
  std::vector<uint32_t> ids(cols + 1, 77);
  table.kernels->nearest_tile(panel, packed.values.data(), packed.offsets.data(), packed.groups,
                              dim, scores.data(), ids.data());
  CHECK_EQ(scores[cols], -1.0f);
  CHECK_EQ(ids[cols], 77);
  for (size_t c = 0; c < cols; ++c) {
    float best = std::numeric_limits<float>::infinity();
    size_t nearest = 0;
    for (size_t j = 0; j < offset.size(); ++j) {
      float score = offset[j];
      for (size_t k = 0; k < dim; ++k) score += centroids[j * dim + k] * panel[k * cols + c];
      if (!(score < best)) continue;
      best = score;
      nearest = j;
    }
    if (ids[c] != nearest || bits_of(scores[c]) != bits_of(best))
      check::fail(__FILE__, __LINE__,
                  table.name + " dim " + std::to_string(dim) + " count " +
                      std::to_string(offset.size()) + ": got " + check::show(ids[c]) + " at " +
                      check::show(scores[c]) + ", expected " + check::show(nearest) + " at " +
                      check::show(best));
  }
}

TEST(every_bit_of_every_shape) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const size_t dim : {1, 2, 3, 7, 8, 24, 49, 300}) {
    for (const size_t count : {1, 2, 7, 8, 9, 16, 17, 255, 256}) {
      std::vector<float> centroids(count * dim), offset(count);
      for (float& value : centroids) value = normal(random);
      for (float& value : offset) value = normal(random);
      for (const NamedTable& table : tables_here())
        check_tile(table, centroids, offset, dim, random);
    }
  }
}

TEST(ties_go_to_the_smaller_id) {
  std::mt19937 random(2);
  for (const NamedTable& table : tables_here())
    check_tile(table, std::vector<float>(100 * 3, 0.5f), std::vector<float>(100, 0.25f), 3, random);
}

}  // namespace
}  // namespace bigrain::simd
