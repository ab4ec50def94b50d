// SPDX-License-Identifier: Apache-2.0
#include "index/disk_build/model.h"

#include <algorithm>
#include <cfloat>
#include <string>
#include <utility>
#include <vector>

#include "format/index_file.h"
#include "index/build_rules.h"
#include "index/choose_code_dim.h"
#include "quant/code_space.h"
#include "quant/mean.h"
#include "quant/pq_coder.h"
#include "util/rng.h"
#include "util/thread_pool.h"

namespace bigrain::disk_build {

namespace {

constexpr uint64_t kSampleStream = 0x53414d504c45;  // "SAMPLE"
constexpr size_t kGrain = 256;                      // rows mapped at a time

// Row i of `wanted` sampled of `rows`: one from each of so many equal runs, in order.
std::vector<uint64_t> sampled_rows(uint64_t rows, uint64_t wanted, uint64_t seed) {
  std::vector<uint64_t> sample(wanted);
  Rng rng(seed, kSampleStream);
  for (uint64_t i = 0; i < wanted; ++i) {
    __extension__ using Wide = unsigned __int128;
    const auto at = [&](uint64_t j) { return static_cast<uint64_t>(Wide{j} * rows / wanted); };
    sample[i] = at(i) + rng.bounded(at(i + 1) - at(i));
  }
  return sample;
}

void check_row(const VectorFile& vectors, Metric metric, uint64_t row, std::span<const float> x) {
  quant::check_length("vectors", row, x);
  if (metric != Metric::cosine) return;
  double squared = 0;
  for (const float value : x) squared += static_cast<double>(value) * value;
  const bool is_float = vectors.dtype == Dtype::f32 || vectors.dtype == Dtype::f16;
  // Below that the quotient of a cosine would lose its bits.
  if (squared >= (is_float ? double{FLT_MIN} : 0.5)) return;
  throw Error::invalid("vectors: row " + std::to_string(row) +
                       " has zero length, which has no direction under metric 'cosine'; remove it "
                       "or use another metric");
}

// The one pass: sums for the mean, and the rows of the sample.
class FirstPass {
 public:
  FirstPass(RowReader& reader, IndexParts& parts, const std::vector<uint64_t>& sample,
            uint32_t threads, Monitor& monitor)
      : reader_(reader),
        parts_(parts),
        sample_(sample),
        threads_(threads),
        monitor_(monitor),
        mean_(parts.meta.dim),
        no_mean_(parts.meta.dim) {}

  void run(size_t block_rows) {
    const VectorFile& vectors = reader_.vectors();
    Buffer block(std::min<uint64_t>(block_rows, vectors.rows) * reader_.row_bytes());
    monitor_.start(vectors.rows);
    for (uint64_t first = 0; first < vectors.rows; first += block_rows) {
      monitor_.check();
      const size_t count = std::min<uint64_t>(block_rows, vectors.rows - first);
      reader_.read(first, count, block.data());
      take_sample(first, count, block);
      add(first, count, block);
      monitor_.advance(count);
    }
    if (parts_.meta.metric != Metric::ip) mean_.finish(parts_.mean.as<float>());
  }

 private:
  void take_sample(uint64_t first, size_t count, const Buffer& block) {
    const size_t bytes = reader_.row_bytes();
    for (; next_ < sample_.size() && sample_[next_] < first + count; ++next_) {
      std::copy_n(block.data() + (sample_[next_] - first) * bytes, bytes,
                  parts_.vectors.data() + next_ * bytes);
    }
  }

  void add(uint64_t first, size_t count, const Buffer& block) {
    const IndexMeta& meta = parts_.meta;
    const auto load = [&](size_t i, std::span<float> x) {
      const std::byte* const row = block.data() + i * reader_.row_bytes();
      quant::load_vector(row, meta.dtype, x);
      check_row(reader_.vectors(), meta.metric, first + i, x);
      quant::load_centred(meta, meta.dtype, no_mean_, row, x);
    };
    mean_.add(count, load, threads_, monitor_);
  }

  RowReader& reader_;
  IndexParts& parts_;
  const std::vector<uint64_t>& sample_;
  uint32_t threads_;
  Monitor& monitor_;
  quant::RunningMean mean_;
  std::vector<float> no_mean_;
  size_t next_ = 0;
};

std::vector<float> map_sample(const IndexParts& parts, const simd::Kernels& kernels,
                              uint32_t threads, Monitor& monitor) {
  const quant::CodeSpace space(parts, kernels);
  const size_t bytes = parts.meta.dim * item_size(parts.meta.dtype);
  std::vector<float> mapped(parts.meta.count * space.dim());
  parallel_for(parts.meta.count, kGrain, threads, monitor, [&](size_t begin, size_t end, uint32_t) {
    quant::MapScratch scratch;
    for (size_t i = begin; i < end; ++i) {
      const auto y = space.map_row(parts.vectors.data() + i * bytes, scratch);
      std::copy(y.begin(), y.end(), mapped.begin() + static_cast<ptrdiff_t>(i * space.dim()));
    }
  });
  return mapped;
}

IndexMeta meta_of(const VectorFile& vectors, const BuildParams& params) {
  IndexMeta meta;
  meta.metric = params.metric;
  meta.dtype = vectors.dtype;
  meta.dim = vectors.dim;
  meta.build_width = params.build_width;
  meta.alpha = alpha_of(params);
  meta.seed = params.seed;
  return meta;
}

}  // namespace

Model learn(RowReader& reader, const BuildParams& params, const Budget& budget,
            const simd::Kernels& kernels, Monitor& monitor) {
  const VectorFile& vectors = reader.vectors();
  const uint32_t threads = resolve_threads(params.threads);
  auto parts = std::make_unique<IndexParts>();
  parts->meta = meta_of(vectors, params);
  const std::vector<uint64_t> sample =
      sampled_rows(vectors.rows, budget.sample_rows(), params.seed);
  parts->meta.count = sample.size();
  parts->mean = Buffer(vectors.dim * sizeof(float));
  parts->vectors = Buffer(sample.size() * reader.row_bytes());
  FirstPass(reader, *parts, sample, threads, monitor).run(budget.block_rows());
  choose_code_dim(*parts, params.code_dim, params.train_queries, kernels, threads, monitor);
  if (params.pq_bytes != 0) quant::fit_pq(*parts, params.pq_bytes, threads, monitor);
  const std::vector<float> mapped = map_sample(*parts, kernels, threads, monitor);
  parts->vectors = {};
  parts->meta.count = vectors.rows;
  parts->meta.degree = degree_of(params, *parts);
  parts->meta.count = 0;
  const uint32_t dim = parts->meta.code_dim;
  const RouterParams route{vectors.rows,
                           budget.shard_points(params, parts->meta.degree, code_stride(dim)),
                           params.seed, threads};
  return {std::move(parts), make_router(mapped, dim, route, kernels, monitor)};
}

void save_model(const Model& model, WorkFolder& work) {
  const std::vector<std::byte> bytes = format::serialize(*model.parts);
  work.save_blob("model", bytes);
  work.save_blob("centres", {model.router.centres().data(), model.router.centres().size()});
}

Model load_model(const WorkFolder& work, const simd::Kernels& kernels) {
  Monitor unwatched;
  const Buffer bytes = work.load_blob("model");
  auto parts = format::parse({bytes.data(), bytes.size()}, Verify::full, unwatched);
  const size_t stride = code_stride(parts->meta.code_dim);
  return {std::move(parts), Router(work.load_blob("centres"), stride, kernels.score_codes)};
}

}  // namespace bigrain::disk_build
