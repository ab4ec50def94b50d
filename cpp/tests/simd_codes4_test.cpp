// SPDX-License-Identifier: Apache-2.0
// score_codes4 of every table against int64 sums; one float formula, so every bit must agree.
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
constexpr size_t kConstants = 2 * sizeof(float);

enum class Fill { random, largest, smallest, alternating };

uint32_t pick(Fill fill, size_t i, uint32_t least, uint32_t most, std::mt19937& random) {
  if (fill == Fill::largest) return most;
  if (fill == Fill::smallest) return least;
  if (fill == Fill::alternating) return i % 2 ? most : least;
  return least + static_cast<uint32_t>(random() % (most - least + 1));
}

// Position p of a query meets nibble p / 64 % 2 of byte 64 * (p / 128) + p % 64 of a record.
size_t byte_of(size_t p) { return p / 128 * 64 + p % 64; }

// Records and a query that end against a page that faults. Every nibble but those of the constants
// is a code, also where the query is zero: what stands there must not matter.
struct Scene {
  Scene(size_t dim, size_t stride_in, Fill query_fill, Fill record_fill, uint32_t seed)
      : stride(stride_in), query_memory(2 * stride), record_memory(kRecords * stride) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    int8_t* code = reinterpret_cast<int8_t*>(query_memory.last(2 * stride));
    records = record_memory.last(kRecords * stride);
    for (size_t p = 0, placed = 0; placed < dim && p < 2 * stride; ++p) {
      if (byte_of(p) >= stride - kConstants) continue;
      code[p] = static_cast<int8_t>(static_cast<int>(pick(query_fill, p, 0, 254, random)) - 127);
      query.sum += code[p];
      ++placed;
    }
    for (size_t r = 0; r < kRecords; ++r) {
      uint8_t* record = reinterpret_cast<uint8_t*>(records + r * stride);
      for (size_t i = 0; i < stride; ++i) {
        const uint32_t low = pick(record_fill, i + r, 0, 15, random);
        record[i] = static_cast<uint8_t>(low | pick(record_fill, i + r, 0, 15, random) << 4);
      }
      const float constants[2] = {normal(random), normal(random)};
      std::memcpy(record + stride - sizeof constants, constants, sizeof constants);
    }
    query.code = code;
    query.factor = normal(random);
  }

  float expected(uint32_t id) const {
    const uint8_t* record = reinterpret_cast<const uint8_t*>(records + id * stride);
    int64_t dot = 0;
    for (size_t p = 0; p < 2 * stride; ++p) {
      const int nibble = record[byte_of(p)] >> (p / 64 % 2 * 4) & 15;
      dot += int64_t{query.code[p]} * (2 * nibble - 15);
    }
    float constants[2];
    std::memcpy(constants, record + stride - sizeof constants, sizeof constants);
    const float product = (query.factor * constants[0]) * static_cast<float>(dot);
    return constants[1] + product;
  }

  size_t stride;
  GuardedBuffer query_memory, record_memory;
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
    table.kernels->score_codes4(scene.query, scene.records, scene.stride, ids.data(), count,
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

size_t stride_for(size_t dim) { return (dim + 16 + 127) / 128 * 64; }

TEST(every_dimension) {
  const std::vector<NamedTable> tables = tables_here();
  for (size_t dim = 1; dim <= 1100; ++dim) {
    const Scene scene(dim, stride_for(dim), Fill::random, Fill::random, static_cast<uint32_t>(dim));
    check_scene(tables, scene, 1 + dim % 33, static_cast<uint32_t>(dim));
  }
}

TEST(every_count) {
  const std::vector<NamedTable> tables = tables_here();
  for (const size_t stride : {64, 128, 192, 448}) {
    const Scene scene(2 * stride - 16, stride, Fill::random, Fill::random, 3);
    for (size_t count = 0; count <= 70; ++count)
      check_scene(tables, scene, count, static_cast<uint32_t>(count));
  }
}

TEST(largest_codes) {
  const std::vector<NamedTable> tables = tables_here();
  constexpr Fill kFills[] = {Fill::largest, Fill::smallest, Fill::alternating};
  for (const Fill query_fill : kFills) {
    for (const Fill record_fill : kFills) {
      for (const size_t dim : {size_t{112}, size_t{1024}, size_t{kMaxDim}}) {
        const Scene scene(dim, stride_for(dim), query_fill, record_fill, 4);
        check_scene(tables, scene, 9, 5);
      }
    }
  }
}

}  // namespace
}  // namespace bigrain::simd
