// SPDX-License-Identifier: Apache-2.0
// Scores of 8-bit and 4-bit code records (ScoreCodesFn, ScoreCodes4Fn): the inner loop of every
// graph search.
//
// Records are random in memory, so the loop is about misses first. kGroup records are scored at
// once: one load of the query serves all of them, and their misses and chains overlap. Each step
// asks for the same line of the next group: a whole record asked for in one go would fill the
// core's miss buffers (10 to 24 lines; a record of 784 codes is 13) and stall the scoring behind
// it.
//
// A vector trait V provides: kCodeBytes (a divisor of 64), CodeOperand and code_operand(query) (the
// query's chunk in the form that the multiplication wants), Dot, zero_dot, dot(acc, operand,
// record), and finish(acc[kGroup], query, constants[kGroup], out), which sums the lanes of each acc
// and does the float part; constants[j] points at the scale and bias of record j. For 4-bit codes
// nibble_operand(query), the two chunks at query and query + 64, dot_nibbles and finish_nibbles do
// the same; dot_nibbles multiplies by the unsigned nibble, and finish_nibbles makes of the sum
// twice the sum less 15 times the query's, which is the dot with 2 u - 15.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simd/kernels.h"

namespace bigrain::simd {

inline constexpr size_t kGroup = 4;
inline constexpr size_t kLine = 64;
// All three measured in bench/LOG.md, "simd". Groups between the one scored and the one fetched:
inline constexpr size_t kGroupsAhead = 1;
// Records, and lines of each, asked for before any is scored: together they fit the miss buffers.
inline constexpr size_t kFirstRecords = 8;
inline constexpr size_t kFirstLines = 2;

// The two forms of a record, as the loop below sees them.
template <class V>
struct ByteCodes {
  using Trait = V;
  static auto operand(const int8_t* query, size_t line, size_t part) {
    return V::code_operand(query + line + part);
  }
  template <class Operand>
  static auto dot(typename V::Dot acc, const Operand& operand, const std::byte* record) {
    return V::dot(acc, operand, record);
  }
  static void finish(const typename V::Dot (&acc)[kGroup], const CodeQuery& query,
                     const std::byte* const (&constants)[kGroup], float* out) {
    V::finish(acc, query, constants, out);
  }
};

template <class V>
struct NibbleCodes {
  using Trait = V;
  static auto operand(const int8_t* query, size_t line, size_t part) {
    return V::nibble_operand(query + 2 * line + part);
  }
  template <class Operand>
  static auto dot(typename V::Dot acc, const Operand& operand, const std::byte* record) {
    return V::dot_nibbles(acc, operand, record);
  }
  static void finish(const typename V::Dot (&acc)[kGroup], const CodeQuery& query,
                     const std::byte* const (&constants)[kGroup], float* out) {
    V::finish_nibbles(acc, query, constants, out);
  }
};

// Scores the records at record[0..kGroup) while fetching those at ahead[0..kGroup).
template <class Codes>
inline __attribute__((always_inline)) void score_group(const CodeQuery& query, size_t stride,
                                                       const std::byte* const (&record)[kGroup],
                                                       const std::byte* const (&ahead)[kGroup],
                                                       float* out) {
  using V = typename Codes::Trait;
  typename V::Dot acc[kGroup];
  for (size_t j = 0; j < kGroup; ++j) acc[j] = V::zero_dot();
  const int8_t* const code = query.code;
  for (size_t offset = 0; offset < stride; offset += kLine) {
    for (size_t j = 0; j < kGroup; ++j) __builtin_prefetch(ahead[j] + offset);
#pragma GCC unroll 4
    for (size_t part = 0; part != kLine; part += V::kCodeBytes) {
      const auto operand = Codes::operand(code, offset, part);
#pragma GCC unroll 4
      for (size_t j = 0; j < kGroup; ++j)
        acc[j] = Codes::dot(acc[j], operand, record[j] + offset + part);
    }
  }
  const std::byte* constants[kGroup];
  for (size_t j = 0; j < kGroup; ++j) constants[j] = record[j] + stride - 2 * sizeof(float);
  Codes::finish(acc, query, constants, out);
}

template <class Codes>
void score_codes(const CodeQuery& query, const std::byte* records, size_t stride,
                 const uint32_t* ids, size_t count, float* out) {
  // Past the end the last record stands in: its lines are in flight or in cache already.
  const auto record_of = [&](size_t i) {
    return records + size_t{ids[i < count ? i : count - 1]} * stride;
  };
  for (size_t i = 0; i < kFirstRecords && i < count; ++i)
    for (size_t line = 0; line < kFirstLines; ++line)
      __builtin_prefetch(record_of(i) + line * kLine);  // past a short record it does no harm
  for (size_t i = 0; i < count; i += kGroup) {
    const std::byte *record[kGroup], *ahead[kGroup];
    for (size_t j = 0; j < kGroup; ++j) {
      record[j] = record_of(i + j);
      ahead[j] = record_of(i + j + kGroupsAhead * kGroup);
    }
    if (i + kGroup <= count) {
      score_group<Codes>(query, stride, record, ahead, out + i);
    } else {
      float scores[kGroup];
      score_group<Codes>(query, stride, record, ahead, scores);
      for (size_t j = 0; i + j < count; ++j) out[i + j] = scores[j];
    }
  }
}

}  // namespace bigrain::simd
