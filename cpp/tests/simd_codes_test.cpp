// SPDX-License-Identifier: Apache-2.0
// score_codes of every table against int64 sums; one float formula, so every bit must agree.
#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "bigrain/params.h"
#include "check.h"
#include "simd_common.h"

namespace bigrain::simd {
namespace {

constexpr size_t kRecords = 37;

enum class Fill { random, largest, smallest, alternating };

int8_t code_of(Fill fill, size_t i, std::mt19937& random) {
  if (fill == Fill::largest) return 127;
  if (fill == Fill::smallest) return -127;
  if (fill == Fill::alternating) return i % 2 ? 127 : -127;
  return static_cast<int8_t>(static_cast<int>(random() % 255) - 127);
}

// Records that end against a page that faults, and a query that does too.
struct Scene {
  Scene(size_t dim, size_t stride_in, Fill query_fill, Fill record_fill, uint32_t seed)
      : stride(stride_in), query_memory(stride), record_memory(kRecords * stride) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    code = reinterpret_cast<int8_t*>(query_memory.last(stride));
    records = record_memory.last(kRecords * stride);
    for (size_t i = 0; i < dim; ++i) code[i] = code_of(query_fill, i, random);
    for (size_t r = 0; r < kRecords; ++r) {
      int8_t* record = reinterpret_cast<int8_t*>(records + r * stride);
      for (size_t i = 0; i < dim; ++i) record[i] = code_of(record_fill, i + r, random);
      const float constants[2] = {normal(random), normal(random)};
      std::memcpy(record + stride - sizeof constants, constants, sizeof constants);
    }
    query.code = code;
    query.factor = normal(random);
    for (size_t i = 0; i < dim; ++i) query.sum += code[i];
  }

  float expected(uint32_t id) const {
    const int8_t* record = reinterpret_cast<const int8_t*>(records + id * stride);
    int64_t dot = 0;
    for (size_t i = 0; i < stride; ++i) dot += int64_t{code[i]} * record[i];
    float constants[2];
    std::memcpy(constants, record + stride - sizeof constants, sizeof constants);
    const float product = (query.factor * constants[0]) * static_cast<float>(dot);
    return constants[1] + product;
  }

  size_t stride;
  GuardedBuffer query_memory, record_memory;
  int8_t* code;
  std::byte* records;
  CodeQuery query{};
};

void check_scene(const std::vector<NamedTable>& tables, const Scene& scene, size_t count,
                 uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint32_t> ids(count);
  for (uint32_t& id : ids) id = static_cast<uint32_t>(random() % kRecords);
  for (const NamedTable& table : tables) {
    std::vector<float> out(count + 1, -1.0f);
    table.kernels->score_codes(scene.query, scene.records, scene.stride, ids.data(), count,
                               out.data());
    CHECK_EQ(out[count], -1.0f);
    for (size_t i = 0; i < count; ++i) {
      const float expected = scene.expected(ids[i]);
      if (bits_of(out[i]) != bits_of(expected))
        check::fail(__FILE__, __LINE__,
                    table.name + " stride " + std::to_string(scene.stride) + " count " +
                        std::to_string(count) + ": got " + check::show(out[i]) + ", expected " +
                        check::show(expected));
    }
  }
}

TEST(every_dimension) {
  const std::vector<NamedTable> tables = tables_here();
  for (size_t dim = 1; dim <= 1100; ++dim) {
    const size_t stride = (dim + 8 + 63) / 64 * 64;
    const Scene scene(dim, stride, Fill::random, Fill::random, static_cast<uint32_t>(dim));
    check_scene(tables, scene, 1 + dim % 33, static_cast<uint32_t>(dim));
  }
}

TEST(every_count) {
  const std::vector<NamedTable> tables = tables_here();
  for (const size_t stride : {64, 128, 192, 832}) {
    const Scene scene(stride - 8, stride, Fill::random, Fill::random, 3);
    for (size_t count = 0; count <= 70; ++count)
      check_scene(tables, scene, count, static_cast<uint32_t>(count));
  }
}

TEST(largest_codes) {
  const std::vector<NamedTable> tables = tables_here();
  constexpr Fill kFills[] = {Fill::largest, Fill::smallest, Fill::alternating};
  for (const Fill query_fill : kFills) {
    for (const Fill record_fill : kFills) {
      for (const size_t dim : {size_t{56}, size_t{1024}, size_t{kMaxDim}}) {
        const Scene scene(dim, (dim + 8 + 63) / 64 * 64, query_fill, record_fill, 4);
        check_scene(tables, scene, 9, 5);
      }
    }
  }
}

}  // namespace
}  // namespace bigrain::simd
