// SPDX-License-Identifier: Apache-2.0
// How points are numbered while the graph is made, and who is in a shard.
//
// A point's home is the shard whose centre is nearest. Points are numbered by home, and by vector
// within a home, so that near ones lie close together on the disk: that number is a place.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "index/disk_build/work_folder.h"
#include "io/bucket_file.h"
#include "search/greedy.h"
#include "util/buffer.h"
#include "util/monitor.h"

namespace bigrain::disk_build {

// Of the members of each shard, how many have which home.
class MemberCounts {
 public:
  explicit MemberCounts(size_t shards) : shards_(shards), counts_(shards * shards) {}

  size_t shards() const { return shards_; }
  uint32_t& at(size_t shard, size_t home) { return counts_[shard * shards_ + home]; }
  uint32_t at(size_t shard, size_t home) const { return counts_[shard * shards_ + home]; }
  uint64_t members(size_t shard) const;
  std::vector<uint32_t>& all() { return counts_; }

 private:
  size_t shards_;
  std::vector<uint32_t> counts_;
};

// The places of each home: [begin(home), begin(home + 1)).
class Homes {
 public:
  explicit Homes(const MemberCounts& counts);

  size_t count() const { return begins_.size() - 1; }
  uint32_t points() const { return begins_.back(); }
  uint32_t begin(size_t home) const { return begins_[home]; }
  size_t of(uint32_t place) const;

 private:
  std::vector<uint32_t> begins_;
};

// A member of a shard, as the file "members" has it.
struct Member {
  uint32_t number;  // within its home
  uint16_t home;
  uint16_t reserved = 0;
};
static_assert(sizeof(Member) == 8);

// The places of a shard's members, ascending.
std::vector<uint32_t> load_members(const io::BucketReader& members, const MemberCounts& counts,
                                   const Homes& homes, size_t shard);

// The number of the vector, by place. Reads "homes".
std::vector<uint32_t> load_ids(const WorkFolder& work, const Homes& homes);

// Codes of marked places, close together and numbered 0, 1, ... in their order.
class Gathered {
 public:
  // Codes lie in buckets by home.
  Gathered(const Homes& homes, const io::BucketReader& codes);

  // Whether it was not marked before.
  bool mark(uint32_t place) {
    uint64_t& word = bits_[place / 64];
    const uint64_t bit = uint64_t{1} << place % 64;
    const bool is_new = (word & bit) == 0;
    word |= bit;
    return is_new;
  }
  void load(Monitor& monitor);
  void clear();

  // Between load() and clear(), of marked places.
  uint32_t number(uint32_t place) const {
    const uint64_t below = (uint64_t{1} << place % 64) - 1;
    return ranks_[place / 64] +
           static_cast<uint32_t>(__builtin_popcountll(bits_[place / 64] & below));
  }
  uint32_t place(uint32_t number) const { return places_[number]; }
  search::CodesView codes() const { return {codes_.data(), stride_}; }
  // Only until the next load().
  Buffer take_codes() { return std::move(codes_); }

 private:
  void read_home(size_t home);

  const Homes& homes_;
  const io::BucketReader& reader_;
  size_t stride_;
  std::vector<uint64_t> bits_;
  std::vector<uint32_t> ranks_, places_;
  Buffer codes_, extent_;
};

}  // namespace bigrain::disk_build
