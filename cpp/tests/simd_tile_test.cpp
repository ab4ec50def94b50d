// SPDX-License-Identifier: Apache-2.0
// distance_tile and smallest of every table against plain loops; every bit must agree.
#include <algorithm>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "simd/generic/distance_tile.h"
#include "simd_common.h"
#include "util/buffer.h"

namespace bigrain::simd {
namespace {

// Points whose codes end against a page that faults.
struct Points {
  Points(size_t count_in, size_t depth_in, int largest, uint32_t seed)
      : count(count_in), depth(depth_in), memory(count_in * depth_in), codes(nullptr) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    codes = reinterpret_cast<int8_t*>(memory.last(count * depth));
    for (size_t i = 0; i < count * depth; ++i) {
      const int span = 2 * largest + 1;
      codes[i] = static_cast<int8_t>(largest == 0 ? -127 : static_cast<int>(random()) % span / 2);
    }
    for (size_t i = 0; i < count; ++i) {
      TileRow row{codes + i * depth, 0, -2 * normal(random), normal(random)};
      for (size_t k = 0; k < depth; ++k) row.sum += row.code[k];
      rows.push_back(row);
    }
  }

  float distance(size_t a, size_t b) const {
    int64_t dot = 0;
    for (size_t k = 0; k < depth; ++k) dot += int64_t{rows[a].code[k]} * rows[b].code[k];
    const float scale = -0.5f * rows[b].factor;
    return (rows[a].bias + rows[b].bias) + (rows[a].factor * scale) * static_cast<float>(dot);
  }

  size_t count, depth;
  GuardedBuffer memory;
  int8_t* codes;
  std::vector<TileRow> rows;
};

TEST(a_tile_holds_the_distance_of_every_pair) {
  for (const NamedTable& table : tables_here()) {
    const size_t columns = table.kernels->code_tile_cols, most = table.kernels->code_tile_rows;
    CHECK(most <= kCodeTileMaxRows && kSmallestMax % columns == 0);
    for (size_t depth : {4, 8, 60, 64, 100, 784, 65'536}) {
      for (int largest : {0, 127}) {
        const Points points(columns, depth, largest, 3);
        Buffer codes(columns * depth);
        std::vector<float> scales, biases;
        for (size_t c = 0; c < columns; ++c) {
          scales.push_back(-0.5f * points.rows[c].factor);
          biases.push_back(points.rows[c].bias);
          for (size_t k = 0; k < depth; ++k) {
            codes.data()[k / 4 * 4 * columns + 4 * c + k % 4] = std::byte(points.rows[c].code[k]);
          }
        }
        for (size_t rows : {size_t{1}, most - 1, most}) {
          std::vector<float> out(most * (columns + 3), -7.0f);
          table.kernels->distance_tile(points.rows.data(), rows,
                                       {codes.data(), scales.data(), biases.data()}, depth,
                                       out.data(), columns + 3);
          for (size_t r = 0; r < most; ++r) {
            for (size_t c = 0; c < columns; ++c) {
              const float expected = r < rows ? points.distance(r, c) : -7.0f;
              CHECK_EQ(bits_of(out[r * (columns + 3) + c]), bits_of(expected));
            }
          }
        }
      }
    }
  }
}

TEST(smallest_finds_what_sorting_finds) {
  std::mt19937 random(5);
  for (size_t round = 0; round < 400; ++round) {
    const size_t count = kSmallestMax * (1 + random() % 9), k = 1 + random() % kSmallestMax;
    // Few distinct values, so that ties are many; some rows are nearly all +infinity.
    std::vector<float> values(count, std::numeric_limits<float>::infinity());
    const size_t finite = random() % (count + 1), distinct = 1 + random() % 300;
    for (size_t i = 0; i < finite; ++i)
      values[random() % count] = static_cast<float>(random() % distinct) - 9.0f;
    std::vector<std::pair<float, uint32_t>> sorted;
    for (uint32_t i = 0; i < count; ++i)
      if (values[i] < std::numeric_limits<float>::infinity()) sorted.push_back({values[i], i});
    std::sort(sorted.begin(), sorted.end());
    sorted.resize(std::min(sorted.size(), k));
    for (const NamedTable& table : tables_here()) {
      std::vector<float> kept(k);
      std::vector<uint32_t> positions(k);
      const size_t found =
          table.kernels->smallest(values.data(), count, k, kept.data(), positions.data());
      CHECK_EQ(found, sorted.size());
      for (size_t i = 0; i < found; ++i) {
        CHECK_EQ(kept[i], sorted[i].first);
        CHECK_EQ(positions[i], sorted[i].second);
      }
    }
  }
}

}  // namespace
}  // namespace bigrain::simd
