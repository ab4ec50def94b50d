// SPDX-License-Identifier: Apache-2.0
#include "quant/pq_scan.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "util/buffer.h"
#include "util/thread_pool.h"

namespace bigrain::quant {

namespace {

// fast_scan's block: 32 codes, 16 bytes per sub-code.
constexpr size_t kBlock = 32, kBlockBytes = 16, kEntries = 16;
// Rows of float sums that are kept going at once, to hide the latency of additions.
constexpr size_t kRows = 8;
// Rows per task, about a millisecond or less.
constexpr size_t kTaskRows = 8192;

size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

// sums[i] = the sum over subs of tables[sub][code_i], for `rows` codes; subs in order.
template <uint32_t kBits>
void sum_entries_of(const PqShape& shape, const float* tables, const uint8_t* codes, size_t rows,
                    float* sums) {
  constexpr size_t k = size_t{1} << kBits;
  const size_t size = shape.code_size();
  for (size_t i = 0; i < rows; i += kRows) {
    const size_t count = std::min(kRows, rows - i);
    const uint8_t* code[kRows];
    for (size_t r = 0; r < kRows; ++r) code[r] = codes + (i + std::min(r, count - 1)) * size;
    float sum[kRows] = {};
    const float* table = tables;
    for (size_t sub = 0; sub < shape.subs; ++sub, table += k) {
#pragma GCC unroll 8
      for (size_t r = 0; r < kRows; ++r) {
        if constexpr (kBits == 8) {
          sum[r] += table[code[r][sub]];
        } else {
          sum[r] += table[code[r][sub / 2] >> (sub % 2 * 4) & 15];
        }
      }
    }
    std::copy_n(sum, count, sums + i);
  }
}

void sum_entries(const PqShape& shape, const float* tables, const uint8_t* codes, size_t rows,
                 float* sums) {
  const auto sum = shape.bits == 8 ? sum_entries_of<8> : sum_entries_of<4>;
  sum(shape, tables, codes, rows, sums);
}

// 4-bit codes as fast_scan reads them; codes past the end are zero.
void pack_block(const PqShape& shape, const uint8_t* codes, size_t rows, uint8_t* block) {
  std::fill_n(block, shape.subs * kBlockBytes, uint8_t{0});
  for (size_t j = 0; j < rows; ++j) {
    const uint8_t* const code = codes + j * shape.code_size();
    const size_t shift = j < kBlockBytes ? 0 : 4;
    uint8_t* const to = block + j % kBlockBytes;
    for (size_t sub = 0; sub < shape.subs; ++sub)
      to[sub * kBlockBytes] |= static_cast<uint8_t>(shape.code(code, sub) << shift);
  }
}

struct ScanTables {
  Buffer lut;
  float bias, step;  // a sum of entries is about bias + step * the integer sum
};

// The widest table's range over 255; bias: the sum of the tables' least entries.
void find_step(const PqShape& shape, const float* tables, double* bias, float* step) {
  float range = 0;
  *bias = 0;
  for (size_t sub = 0; sub < shape.subs; ++sub) {
    const auto [low, high] =
        std::minmax_element(tables + sub * kEntries, tables + (sub + 1) * kEntries);
    range = std::max(range, *high - *low);
    *bias += static_cast<double>(*low);
  }
  *step = range / 255;
}

ScanTables quantize(const PqShape& shape, const float* tables) {
  ScanTables scan{Buffer(shape.subs * kEntries), 0, 0};
  double bias;
  find_step(shape, tables, &bias, &scan.step);
  scan.bias = static_cast<float>(bias);
  const float inverse = scan.step > 0 ? 1 / scan.step : 0;
  if (!std::isfinite(inverse)) return scan;  // all entries within a denormal of each other
  const std::span<uint8_t> lut = scan.lut.as<uint8_t>();
  for (size_t sub = 0; sub < shape.subs; ++sub) {
    const float* const entries = tables + sub * kEntries;
    const float low = *std::min_element(entries, entries + kEntries);
    for (size_t j = 0; j < kEntries; ++j)
      lut[sub * kEntries + j] =
          static_cast<uint8_t>(std::min((entries[j] - low) * inverse + 0.5f, 255.0f));
  }
  return scan;
}

// Sums of products to cosine distances; `squares` are the codes' squared norms.
void finish_cosine(double query_square, const float* squares, size_t rows, float* out) {
  for (size_t i = 0; i < rows; ++i) {
    const double product = query_square * static_cast<double>(squares[i]);
    const double cosine = product > 0 ? -static_cast<double>(out[i]) / std::sqrt(product) : 0.0;
    out[i] = static_cast<float>(std::clamp(1 - cosine, 0.0, 2.0));
  }
}

// One call of pq_distances.
class Scan {
 public:
  Scan(const Pq& pq, const uint8_t* codes, size_t rows, Metric metric, uint32_t threads,
       Monitor& monitor)
      : pq_(pq), shape_(pq.shape()), codes_(codes), rows_(rows), metric_(metric) {
    const size_t k = shape_.centroids();
    if (metric == Metric::cosine) {
      square_tables_.resize(shape_.subs * k);
      for (size_t sub = 0; sub < shape_.subs; ++sub) {
        for (size_t j = 0; j < k; ++j) {
          float square = 0;
          for (size_t i = 0; i < shape_.length(sub); ++i)
            square += pq.centroid(sub, j)[i] * pq.centroid(sub, j)[i];
          square_tables_[sub * k + j] = square;
        }
      }
      squares_.resize(rows);
    }
    if (shape_.bits == 4) blocks_ = Buffer(ceil_div(rows, kBlock) * block_bytes());
    parallel_for(rows, kTaskRows, threads, monitor,
                 [&](size_t begin, size_t end, uint32_t) { prepare(begin, end); });
  }

  void query(const float* query, float* out) const {
    std::vector<float> tables(shape_.subs * shape_.centroids());
    fill_tables(pq_, query, metric_, tables.data());
    if (shape_.bits == 8) {
      sum_entries(shape_, tables.data(), codes_, rows_, out);
    } else {
      scan_blocks(quantize(shape_, tables.data()), out);
    }
    if (metric_ != Metric::cosine) return;
    double square = 0;
    for (size_t i = 0; i < shape_.dim; ++i)
      square += static_cast<double>(query[i]) * static_cast<double>(query[i]);
    finish_cosine(square, squares_.data(), rows_, out);
  }

 private:
  size_t block_bytes() const { return shape_.subs * kBlockBytes; }

  void prepare(size_t begin, size_t end) {
    static_assert(kTaskRows % kBlock == 0);
    const uint8_t* const codes = codes_ + begin * shape_.code_size();
    if (metric_ == Metric::cosine)
      sum_entries(shape_, square_tables_.data(), codes, end - begin, squares_.data() + begin);
    if (shape_.bits == 8) return;
    for (size_t i = begin; i < end; i += kBlock)
      pack_block(shape_, codes_ + i * shape_.code_size(), std::min(kBlock, end - i),
                 blocks_.as<uint8_t>().data() + i / kBlock * block_bytes());
  }

  void scan_blocks(const ScanTables& tables, float* out) const {
    const simd::FastScanFn fast_scan = simd::active_kernels().fast_scan;
    std::array<uint32_t, kBlock> sums;
    for (size_t i = 0; i < rows_; i += kBlock) {
      fast_scan(tables.lut.as<uint8_t>().data(),
                blocks_.as<uint8_t>().data() + i / kBlock * block_bytes(), shape_.subs,
                sums.data());
      for (size_t j = 0; j < std::min(kBlock, rows_ - i); ++j)
        out[i + j] = tables.bias + tables.step * static_cast<float>(sums[j]);
    }
  }

  const Pq& pq_;
  const PqShape& shape_;
  const uint8_t* codes_;
  size_t rows_;
  Metric metric_;
  std::vector<float> square_tables_, squares_;
  Buffer blocks_;
};

}  // namespace

void fill_tables(const Pq& pq, const float* query, Metric metric, float* tables) {
  const PqShape& shape = pq.shape();
  const size_t k = shape.centroids();
  for (size_t sub = 0; sub < shape.subs; ++sub) {
    const size_t length = shape.length(sub);
    const float* const part = query + shape.first(sub);
    for (size_t j = 0; j < k; ++j) {
      const float* const centroid = pq.centroid(sub, j);
      float sum = 0;
      if (metric == Metric::l2) {
        for (size_t i = 0; i < length; ++i)
          sum += (part[i] - centroid[i]) * (part[i] - centroid[i]);
      } else {
        for (size_t i = 0; i < length; ++i) sum -= part[i] * centroid[i];
      }
      tables[sub * k + j] = sum;
    }
  }
}

void pq_distances(const Pq& pq, const MatrixView& queries, const uint8_t* codes, size_t rows,
                  Metric metric, float* out, uint32_t threads, Monitor& monitor) {
  threads = resolve_threads(threads);
  monitor.start(queries.rows);
  if (rows == 0 || queries.rows == 0) return;
  const Scan scan(pq, codes, rows, metric, threads, monitor);
  parallel_for(queries.rows, 1, threads, monitor, [&](size_t i, size_t, uint32_t) {
    scan.query(static_cast<const float*>(queries.row(i)), out + i * rows);
    monitor.advance(1);
  });
}

float scan_error_bound(const Pq& pq, const float* query, Metric metric) {
  const PqShape& shape = pq.shape();
  std::vector<float> tables(shape.subs * shape.centroids());
  fill_tables(pq, query, metric, tables.data());
  if (shape.bits == 8) return 0;
  double bias;
  float step;
  find_step(shape, tables.data(), &bias, &step);
  return static_cast<float>(shape.subs) * step / 2;
}

void pq_error_bounds(const Pq& pq, const MatrixView& queries, Metric metric, float* out) {
  for (size_t i = 0; i < queries.rows; ++i)
    out[i] = scan_error_bound(pq, static_cast<const float*>(queries.row(i)), metric);
}

}  // namespace bigrain::quant
