// SPDX-License-Identifier: Apache-2.0
#include "index/disk_build/shard.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>

#include "io/stream.h"

namespace bigrain::disk_build {

namespace {

// An extent of which less than this share is wanted is read record by record: a call for each costs
// as much as copying a few kilobytes.
constexpr size_t kSparse = 16;

Error damaged(const char* what) {
  return Error::corrupt(std::string("the work folder's ") + what +
                        " are damaged; begin anew with clean");
}

}  // namespace

uint64_t MemberCounts::members(size_t shard) const {
  const auto row = counts_.begin() + static_cast<ptrdiff_t>(shard * shards_);
  return std::accumulate(row, row + static_cast<ptrdiff_t>(shards_), uint64_t{0});
}

Homes::Homes(const MemberCounts& counts) : begins_(counts.shards() + 1) {
  // Who has a home is a member of it.
  for (size_t home = 0; home < counts.shards(); ++home) {
    begins_[home + 1] = begins_[home] + counts.at(home, home);
  }
}

size_t Homes::of(uint32_t place) const {
  return static_cast<size_t>(std::upper_bound(begins_.begin(), begins_.end(), place) -
                             begins_.begin() - 1);
}

std::vector<uint32_t> load_members(const io::BucketReader& members, const MemberCounts& counts,
                                   const Homes& homes, size_t shard) {
  std::vector<uint32_t> places(members.count(shard)), next(homes.count() + 1);
  for (size_t home = 0; home < homes.count(); ++home) {
    next[home + 1] = next[home] + counts.at(shard, home);
  }
  const std::vector<uint32_t> ends(next.begin() + 1, next.end());
  if (ends.back() != places.size()) throw damaged("members");
  std::vector<Member> extent(members.shape().extent_records);
  for (size_t e = 0; e < members.extents(shard); ++e) {
    members.read_extent(shard, e, extent.data());
    for (size_t i = 0; i < members.extent_count(shard, e); ++i) {
      const Member& member = extent[i];
      if (member.home >= homes.count() || next[member.home] == ends[member.home] ||
          member.number >= homes.begin(member.home + size_t{1}) - homes.begin(member.home)) {
        throw damaged("members");
      }
      places[next[member.home]++] = homes.begin(member.home) + member.number;
    }
  }
  return places;
}

std::vector<uint32_t> load_ids(const WorkFolder& work, const Homes& homes) {
  constexpr size_t kBuffer = size_t{1} << 16;
  const io::File file = work.open("homes");
  io::ReadStream stream(file, 0, homes.points() * sizeof(uint16_t), kBuffer);
  std::vector<uint32_t> ids(homes.points()), next(homes.count());
  for (size_t home = 0; home < homes.count(); ++home) next[home] = homes.begin(home);
  for (uint32_t id = 0; id < homes.points(); ++id) {
    uint16_t home = 0;
    stream.read(&home, sizeof home);
    if (home >= homes.count() || next[home] == homes.begin(home + size_t{1})) {
      throw damaged("homes");
    }
    ids[next[home]++] = id;
  }
  return ids;
}

Gathered::Gathered(const Homes& homes, const io::BucketReader& codes)
    : homes_(homes),
      reader_(codes),
      stride_(codes.shape().record_bytes),
      bits_(homes.points() / 64 + 1),
      ranks_(bits_.size()),
      extent_(codes.shape().extent_bytes()) {}

void Gathered::load(Monitor& monitor) {
  places_.clear();
  for (size_t w = 0; w < bits_.size(); ++w) {
    ranks_[w] = static_cast<uint32_t>(places_.size());
    for (uint64_t left = bits_[w]; left != 0; left &= left - 1) {
      places_.push_back(static_cast<uint32_t>(w * 64) +
                        static_cast<uint32_t>(__builtin_ctzll(left)));
    }
  }
  if (codes_.size() < places_.size() * stride_) codes_ = Buffer(places_.size() * stride_);
  for (size_t home = 0; home < homes_.count(); ++home) {
    monitor.check();
    read_home(home);
  }
}

void Gathered::read_home(size_t home) {
  const uint32_t base = homes_.begin(home), end = homes_.begin(home + 1);
  auto at = std::lower_bound(places_.begin(), places_.end(), base);
  const auto last = std::lower_bound(at, places_.end(), end);
  const auto step = static_cast<uint32_t>(reader_.shape().extent_records);
  while (at != last) {
    const uint32_t e = (*at - base) / step, first = base + e * step;
    const auto stop = std::lower_bound(at, last, first + step);
    const auto wanted = static_cast<size_t>(stop - at);
    std::byte* to = codes_.data() + static_cast<size_t>(at - places_.begin()) * stride_;
    const bool sparse = wanted * kSparse < reader_.extent_count(home, e);
    if (!sparse) reader_.read_extent(home, e, extent_.data());
    for (; at != stop; ++at, to += stride_) {
      if (sparse) {
        reader_.read_record(home, *at - base, to);
      } else {
        std::memcpy(to, extent_.data() + (*at - first) * stride_, stride_);
      }
    }
  }
}

void Gathered::clear() { std::fill(bits_.begin(), bits_.end(), 0); }

}  // namespace bigrain::disk_build
