// SPDX-License-Identifier: Apache-2.0
#include "index/disk_build/scatter.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "index/build_rules.h"
#include "io/bucket_file.h"
#include "io/stream.h"
#include "quant/code_space.h"
#include "quant/scalar8.h"
#include "util/thread_pool.h"

namespace bigrain::disk_build {

namespace {

constexpr size_t kGrain = 64;  // rows coded at a time: below a millisecond each

class Scatter {
 public:
  Scatter(RowReader& reader, const Model& model, const BuildParams& params, const Budget& budget,
          const simd::Kernels& kernels, WorkFolder& work, Monitor& monitor)
      : reader_(reader),
        router_(model.router),
        space_(*model.parts, kernels),
        metric_(model.parts->meta.metric),
        stride_(space_.stride()),
        score_codes_(kernels.score_codes),
        shards_(router_.count()),
        most_(budget.shard_points(params, model.parts->meta.degree, stride_)),
        threads_(resolve_threads(params.threads)),
        work_(work),
        monitor_(monitor),
        counts_(shards_),
        stream_(work.create(shards_ == 1 ? "records" : "homes"), budget.buffers() / 8) {
    if (shards_ == 1) return;
    centrals_.resize(shards_);
    const size_t codes = budget.buffers() / 2, members = budget.buffers() / 8;
    codes_ = std::make_unique<io::BucketWriter>(work.create("codes"),
                                                io::bucket_shape(shards_, stride_, codes));
    members_ = std::make_unique<io::BucketWriter>(
        work.create("members"), io::bucket_shape(shards_, sizeof(Member), members));
  }

  uint32_t run(size_t block_rows) {
    const uint64_t rows = reader_.vectors().rows;
    const size_t most = std::min<uint64_t>(block_rows, rows);
    Buffer block(most * reader_.row_bytes());
    codes_block_ = Buffer(most * stride_);
    choices_.resize(most * kChoices);
    values_.resize(most);
    to_centre_.resize(most);
    monitor_.start(rows);
    for (uint64_t first = 0; first < rows; first += block_rows) {
      monitor_.check();
      const size_t count = std::min<uint64_t>(block_rows, rows - first);
      reader_.read(first, count, block.data());
      code(count, block);
      for (size_t i = 0; i < count; ++i) send(first + i, i);
      monitor_.advance(count);
    }
    finish();
    return entry_.point;
  }

 private:
  void code(size_t count, const Buffer& block) {
    const graph::CodeDistances distances{
        {codes_block_.data(), stride_}, score_codes_, metric_ == Metric::ip};
    parallel_for(count, kGrain, threads_, monitor_, [&](size_t begin, size_t end, uint32_t) {
      quant::MapScratch scratch;
      Router::Scratch route;
      graph::Pivot pivot(stride_);
      for (size_t i = begin; i < end; ++i) {
        std::byte* const record = codes_block_.data() + i * stride_;
        quant::encode(space_.map_row(block.data() + i * reader_.row_bytes(), scratch), metric_,
                      stride_, record);
        values_[i] = entry_value(distances, static_cast<uint32_t>(i), pivot);
        if (shards_ == 1) continue;
        const float norm = quant::constants_of(record, stride_).bias;
        to_centre_[i] = norm + router_.route(record, route, &choices_[i * kChoices]);
      }
    });
  }

  void send(uint64_t id, size_t i) {
    const std::byte* const record = codes_block_.data() + i * stride_;
    entry_.offer(values_[i], static_cast<uint32_t>(id));
    if (shards_ == 1) return stream_.append(record, stride_);
    uint16_t shards[kCopies];
    choose(&choices_[i * kChoices], shards);
    const uint16_t home = shards[0];
    if (home == choices_[i * kChoices]) {
      centrals_[home].offer(to_centre_[i], static_cast<uint32_t>(id));
    }
    const Member member{static_cast<uint32_t>(codes_->count(home)), home};
    codes_->append(home, record);
    stream_.append(&home, sizeof home);
    for (const uint16_t shard : shards) {
      members_->append(shard, &member);
      ++counts_.at(shard, home);
    }
  }

  // The nearest shards that have room; where all near ones are full, as with copies of one point,
  // the emptiest.
  void choose(const uint16_t* choices, uint16_t* shards) const {
    size_t count = 0;
    for (size_t c = 0; c < std::min(kChoices, shards_) && count < kCopies; ++c) {
      if (members_->count(choices[c]) < most_) shards[count++] = choices[c];
    }
    for (; count < kCopies; ++count) {
      size_t best = shards_;
      for (size_t shard = 0; shard < shards_; ++shard) {
        const bool taken = std::find(shards, shards + count, shard) != shards + count;
        if (taken || (best != shards_ && members_->count(shard) >= members_->count(best))) continue;
        best = shard;
      }
      shards[count] = static_cast<uint16_t>(best);
    }
  }

  void finish() {
    stream_.finish();
    if (shards_ == 1) return;
    codes_->finish();
    members_->finish();
    std::vector<uint32_t> hubs(1, entry_.point);
    for (const EntryChoice& central : centrals_) {
      if (central.least < std::numeric_limits<float>::infinity()) hubs.push_back(central.point);
    }
    std::sort(hubs.begin(), hubs.end());
    hubs.erase(std::unique(hubs.begin(), hubs.end()), hubs.end());
    work_.save_blob("hubs", std::as_bytes(std::span(hubs)));
    work_.save_blob("counts", std::as_bytes(std::span(counts_.all())));
  }

  RowReader& reader_;
  const Router& router_;
  quant::CodeSpace space_;
  Metric metric_;
  size_t stride_;
  simd::ScoreCodesFn score_codes_;
  size_t shards_, most_;
  uint32_t threads_;
  WorkFolder& work_;
  Monitor& monitor_;
  MemberCounts counts_;
  io::AppendStream stream_;  // of records, or of homes
  std::unique_ptr<io::BucketWriter> codes_, members_;
  Buffer codes_block_;
  std::vector<uint16_t> choices_;
  std::vector<float> values_, to_centre_;
  EntryChoice entry_;
  std::vector<EntryChoice> centrals_;
};

}  // namespace

uint32_t scatter(RowReader& reader, const Model& model, const BuildParams& params,
                 const Budget& budget, const simd::Kernels& kernels, WorkFolder& work,
                 Monitor& monitor) {
  return Scatter(reader, model, params, budget, kernels, work, monitor).run(budget.block_rows());
}

MemberCounts load_counts(const WorkFolder& work, size_t shards) {
  MemberCounts counts(shards);
  const Buffer bytes = work.load_blob("counts");
  if (bytes.size() != counts.all().size() * sizeof(uint32_t)) {
    throw Error::corrupt("'" + work.path() + "' is damaged; begin anew with clean");
  }
  std::memcpy(counts.all().data(), bytes.data(), bytes.size());
  return counts;
}

}  // namespace bigrain::disk_build
