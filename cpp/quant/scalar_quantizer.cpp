// SPDX-License-Identifier: Apache-2.0
#include "quant/scalar_quantizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "bigrain/error.h"
#include "format/parts.h"
#include "quant/scalar4.h"
#include "quant/scalar8.h"
#include "simd/kernels.h"
#include "util/thread_pool.h"

namespace bigrain::quant {

namespace {

// Records of a task, copied to where they are aligned: some 50 KiB at d=784 with 8 bits, which a
// second-level cache holds while the queries pass.
constexpr size_t kRecordsAtOnce = 64;
// Queries of a task: bounds the time between two polls.
constexpr size_t kQueriesAtOnce = 256;

}  // namespace

// Queries as the kernel wants them.
struct ScalarQuantizer::Prepared {
  Buffer codes;
  std::vector<simd::CodeQuery> queries;
  std::vector<float> offsets;  // |q'|^2
};

struct ScalarQuantizer::Block {
  explicit Block(size_t stride, size_t dim)
      : records(kRecordsAtOnce * stride), scratch(dim), scores(kRecordsAtOnce) {
    std::iota(ids, ids + kRecordsAtOnce, 0u);
  }
  Buffer records;
  std::vector<float> scratch, scores;
  size_t first = 0, count = 0;
  uint32_t ids[kRecordsAtOnce];
  double lengths[kRecordsAtOnce];  // |x| by its code; under cosine only
};

ScalarQuantizer::ScalarQuantizer(uint32_t bits, Frame frame)
    : bits_(bits),
      frame_(std::move(frame)),
      stride_(bits == 8 ? code_stride(frame_.dim()) : code4_stride(frame_.dim())) {
  if (bits != 4 && bits != 8) {
    throw Error::invalid("bits: expected 4 or 8, found " + std::to_string(bits));
  }
}

void ScalarQuantizer::encode(const MatrixView& x, uint32_t threads, Monitor& monitor,
                             std::byte* codes) const {
  std::vector<GridSearch> search(resolve_threads(threads), GridSearch(4));
  for_each_mapped(frame_, x, threads, monitor, [&](size_t i, std::span<float> r, uint32_t worker) {
    std::byte* const record = codes + i * stride_;
    if (bits_ == 8) {
      quant::encode(r, Metric::l2, stride_, record);
    } else {
      encode4(r, Metric::l2, search[worker], record);
    }
  });
}

// x' of a record: still centred and rotated.
void ScalarQuantizer::open(const std::byte* record, std::span<float> out) const {
  if (bits_ == 4) return decode4(record, out);
  const float scale = constants_of(record, stride_).scale;
  const auto* const codes = reinterpret_cast<const int8_t*>(record);
  for (size_t i = 0; i < out.size(); ++i) out[i] = scale * static_cast<float>(codes[i]);
}

void ScalarQuantizer::decode(const Records& codes, uint32_t threads, Monitor& monitor,
                             float* out) const {
  monitor.start(codes.count);
  const auto body = [&](size_t begin, size_t end, uint32_t) {
    for (size_t i = begin; i < end; ++i) {
      const std::span<float> row(out + i * dim(), dim());
      open(codes.data + i * stride_, row);
      frame_.unmap(row);
    }
    monitor.advance(end - begin);
  };
  parallel_for(codes.count, kRecordsAtOnce, threads, monitor, body);
}

ScalarQuantizer::Prepared ScalarQuantizer::prepare_all(const MappedQueries& queries,
                                                       uint32_t threads, Monitor& monitor) const {
  const size_t count = queries.constants.size();
  const size_t bytes = bits_ == 8 ? stride_ : 2 * stride_;
  Prepared prepared{Buffer(count * bytes), std::vector<simd::CodeQuery>(count),
                    std::vector<float>(count)};
  parallel_for(count, kQueriesAtOnce, threads, monitor, [&](size_t begin, size_t end, uint32_t) {
    for (size_t i = begin; i < end; ++i) {
      int8_t* const buffer = prepared.codes.as<int8_t>().data() + i * bytes;
      if (bits_ == 8) {
        const CodeConstants constants = quantize(queries.row(i), buffer);
        prepared.offsets[i] = constants.bias;
        prepared.queries[i] = as_query(buffer, bytes, constants.scale);
      } else {
        prepared.queries[i] = prepare4(queries.row(i), buffer, &prepared.offsets[i]);
      }
    }
  });
  return prepared;
}

// |c + P^-1 x'|.
double ScalarQuantizer::length_of(const std::byte* record, std::span<float> scratch) const {
  open(record, scratch);
  const double square = dot_of(frame_.centre(), frame_.centre()) +
                        2 * dot_of(scratch, frame_.rotated_centre()) + dot_of(scratch, scratch);
  return std::sqrt(std::max(0.0, square));
}

// Records hold the bias of l2; the other metrics want the inner product alone.
void ScalarQuantizer::load_block(const Records& codes, size_t first, Metric metric,
                                 Block& block) const {
  block.first = first;
  block.count = std::min(kRecordsAtOnce, codes.count - first);
  std::byte* const to = block.records.data();
  std::memcpy(to, codes.data + first * stride_, block.count * stride_);
  if (metric == Metric::l2) return;
  for (size_t j = 0; j < block.count; ++j) {
    std::byte* const record = to + j * stride_;
    if (metric == Metric::cosine) block.lengths[j] = length_of(record, block.scratch);
    std::memset(record + stride_ - sizeof(float), 0, sizeof(float));
  }
}

void ScalarQuantizer::distance(const MatrixView& queries, const Records& codes, Metric metric,
                               uint32_t threads, Monitor& monitor, float* out) const {
  const simd::Kernels& kernels = simd::active_kernels();
  const simd::ScoreCodesFn score = bits_ == 8 ? kernels.score_codes : kernels.score_codes4;
  const MappedQueries mapped = map_queries(frame_, queries, metric, threads, monitor);
  const Prepared prepared = prepare_all(mapped, threads, monitor);
  const size_t blocks = (codes.count + kRecordsAtOnce - 1) / kRecordsAtOnce;
  const size_t rounds = (queries.rows + kQueriesAtOnce - 1) / kQueriesAtOnce;
  const auto result_of = [&](size_t i, float score_of_record, double length) {
    if (metric == Metric::l2) return std::max(0.0, double{prepared.offsets[i]} + score_of_record);
    const double inner = mapped.constants[i] - 0.5 * score_of_record;
    if (metric == Metric::ip) return -inner;
    return length > 0 ? 1 - inner / length : 1.0;
  };
  monitor.start(queries.rows * codes.count);
  parallel_for(blocks * rounds, 1, threads, monitor, [&](size_t begin, size_t end, uint32_t) {
    Block block(stride_, dim());
    for (size_t task = begin; task < end; ++task) {
      load_block(codes, task % blocks * kRecordsAtOnce, metric, block);
      const size_t from = task / blocks * kQueriesAtOnce;
      const size_t to = std::min(queries.rows, from + kQueriesAtOnce);
      for (size_t i = from; i < to; ++i) {
        score(prepared.queries[i], block.records.data(), stride_, block.ids, block.count,
              block.scores.data());
        float* const row = out + i * codes.count + block.first;
        for (size_t j = 0; j < block.count; ++j) {
          row[j] = static_cast<float>(result_of(i, block.scores[j], block.lengths[j]));
        }
      }
      monitor.advance((to - from) * block.count);
    }
  });
}

}  // namespace bigrain::quant
