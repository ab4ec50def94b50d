// SPDX-License-Identifier: Apache-2.0
// Index::set_codes: check, encode, and make an index for SSDs of one that was none. All or nothing.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "bigrain/index.h"
#include "bigrain/params.h"
#include "format/parts.h"
#include "index/prepare_disk.h"
#include "quant/neighbour_blocks.h"
#include "quant/pq_coder.h"
#include "util/monitor.h"
#include "util/thread_pool.h"

namespace bigrain {

namespace {

// As a file's are checked (format/contents.cpp).
constexpr float kMaxRotationEntry = 1.001f, kMaxCentroidEntry = 9e18f;

void check_floats(const char* name, const MatrixView& view, uint64_t expected, float most) {
  if (view.dtype != Dtype::f32 || view.rows * view.dim != expected) {
    throw Error::invalid(std::string(name) + ": expected " + std::to_string(expected) +
                         " float32 values, found " + std::to_string(view.rows * view.dim) + " of " +
                         name_of(view.dtype));
  }
  const float* const values = static_cast<const float*>(view.data);
  const float* const wrong = std::find_if_not(
      values, values + expected, [most](float value) { return std::fabs(value) <= most; });
  if (wrong == values + expected) return;
  throw Error::invalid(std::string(name) + ": value " + std::to_string(wrong - values) + " is " +
                       std::to_string(*wrong) + "; expected at most " + std::to_string(most) +
                       " in size");
}

void check(const IndexMeta& meta, const GivenCodes& given, uint32_t threads) {
  if (meta.count == 0) throw Error::invalid("set_codes: the index holds no points to have codes");
  const size_t columns = given.rotation.dim;
  if (given.rotation.rows != meta.dim || columns < 1 || columns > meta.dim) {
    throw Error::invalid("rotation: expected " + std::to_string(meta.dim) +
                         " rows, as many as the " +
                         "vectors have dimensions, and no more columns; found " +
                         std::to_string(given.rotation.rows) + " x " + std::to_string(columns));
  }
  if (given.bytes < 1 || given.bytes > columns) {
    throw Error::invalid("codebooks: expected 1 to " + std::to_string(columns) +
                         " sub-vectors, found " + std::to_string(given.bytes));
  }
  check_floats("rotation", given.rotation, uint64_t{meta.dim} * columns, kMaxRotationEntry);
  check_floats("codebooks", given.codebooks, columns * kPqCentroids, kMaxCentroidEntry);
  if (threads > kMaxThreads) {
    throw Error::invalid("threads: got " + std::to_string(threads) + "; expected 0 to " +
                         std::to_string(kMaxThreads));
  }
}

Buffer copy_of(const void* data, size_t bytes) {
  Buffer buffer(bytes);
  std::memcpy(buffer.data(), data, bytes);
  return buffer;
}

// What set_codes() replaces.
struct PqParts {
  uint32_t bytes, dim;
  bool given;
  Buffer rotation, codebooks, codes;

  void exchange(IndexParts& parts) noexcept {
    std::swap(bytes, parts.meta.pq_bytes);
    std::swap(dim, parts.meta.pq_dim);
    std::swap(given, parts.meta.pq_given);
    std::swap(rotation, parts.pq_rotation);
    std::swap(codebooks, parts.pq_codebooks);
    std::swap(codes, parts.pq_codes);
  }
};

PqParts parts_of(const IndexMeta& meta, const GivenCodes& given) {
  const size_t columns = given.rotation.dim;
  return {given.bytes,
          static_cast<uint32_t>(columns),
          true,
          copy_of(given.rotation.data, meta.dim * columns * sizeof(float)),
          copy_of(given.codebooks.data, columns * kPqCentroids * sizeof(float)),
          given.codes == nullptr ? Buffer() : copy_of(given.codes, meta.count * given.bytes)};
}

std::vector<uint32_t> inverse(const std::vector<uint32_t>& order) {
  std::vector<uint32_t> number(order.size());
  for (size_t i = 0; i < order.size(); ++i) number[order[i]] = static_cast<uint32_t>(i);
  return number;
}

// As prepare_disk(), for an index that keeps what it is if this throws.
void make_for_disk(IndexParts& parts, uint32_t threads, Monitor& monitor) {
  const std::vector<uint32_t> order = page_numbers(parts, monitor), back = inverse(order);
  const bool had_ids = parts.ids.size() != 0, was_fast = parts.blocks.size() != 0;
  const float unit = parts.block_unit;
  Buffer blocks;
  bool renumbered = false;
  if (!order.empty()) std::swap(blocks, parts.blocks);
  try {
    if (!order.empty()) renumber(parts, order);
    renumbered = !order.empty();
    choose_hot(parts, threads, monitor);
    if (was_fast && renumbered) quant::make_blocks(parts, threads, monitor);
    monitor.check_now();
  } catch (...) {
    if (renumbered) renumber(parts, back);
    if (!had_ids) parts.ids = {};
    parts.hot = {};
    if (!order.empty()) std::swap(blocks, parts.blocks);
    parts.block_unit = unit;
    throw;
  }
}

}  // namespace

void Index::set_codes(const GivenCodes& given, uint32_t threads, Monitor& monitor) {
  require_memory("set_codes");
  check(parts_->meta, given, threads);
  threads = resolve_threads(threads);
  PqParts other = parts_of(parts_->meta, given);
  other.exchange(*parts_);
  try {
    if (given.codes == nullptr) quant::encode_pq(*parts_, threads, monitor);
    monitor.check_now();
    if (parts_->hot.size() == 0) make_for_disk(*parts_, threads, monitor);
  } catch (...) {
    other.exchange(*parts_);
    throw;
  }
}

}  // namespace bigrain
