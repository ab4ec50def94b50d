// SPDX-License-Identifier: Apache-2.0
// Streams and bucket files give back what was put in, and damaged ones are noticed.
#include "io/bucket_file.h"

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "check.h"
#include "io/file_system.h"
#include "io/stream.h"
#include "util/rng.h"

namespace bigrain {
namespace {

struct Scratch {
  Scratch()
      : path((std::filesystem::temp_directory_path() /
              ("bigrain-buckets-" + std::to_string(::getpid())))
                 .string()) {
    std::filesystem::remove(path);
  }
  ~Scratch() { std::filesystem::remove(path); }
  io::File create() const { return io::File::create(io::posix(), path, 0600); }
  io::File open() const { return io::File::open(io::posix(), path); }

  std::string path;
};

TEST(streams_give_back_what_was_appended) {
  for (const size_t buffer : {1u, 7u, 4'096u}) {
    const Scratch scratch;
    io::AppendStream stream(scratch.create(), buffer);
    std::vector<uint32_t> values(1'000);
    for (uint32_t i = 0; i < values.size(); ++i) values[i] = i * i;
    for (size_t i = 0; i < values.size(); i += 10) stream.append(&values[i], 40);
    CHECK(stream.size() == 4'000);
    stream.finish();
    const io::File file = scratch.open();
    io::ReadStream reader(file, 40, 4'000, buffer);
    std::vector<uint32_t> read(990);
    reader.read(read.data(), 3'960);
    CHECK(std::equal(read.begin(), read.end(), values.begin() + 10));
    uint32_t more = 0;
    CHECK_THROWS(reader.read(&more, 4), ErrorKind::corrupt);
  }
}

TEST(buckets_keep_their_records_in_order) {
  for (const size_t memory : {1u, 1'000u, 100'000u}) {
    const Scratch scratch;
    const io::BucketShape shape = io::bucket_shape(5, sizeof(uint64_t), memory);
    CHECK(shape.extent_records >= 1);
    io::BucketWriter writer(scratch.create(), shape);
    std::vector<std::vector<uint64_t>> expected(5);
    Rng rng(1);
    for (uint64_t i = 0; i < 3'000; ++i) {
      const uint64_t bucket = rng.bounded(4);  // the last one stays empty
      expected[bucket].push_back(i);
      writer.append(bucket, &i);
    }
    writer.finish();
    const io::BucketReader reader(scratch.open());
    for (size_t bucket = 0; bucket < 5; ++bucket) {
      CHECK(reader.count(bucket) == expected[bucket].size());
      std::vector<uint64_t> found, extent(reader.shape().extent_records);
      for (size_t e = 0; e < reader.extents(bucket); ++e) {
        reader.read_extent(bucket, e, extent.data());
        const auto count = static_cast<ptrdiff_t>(reader.extent_count(bucket, e));
        found.insert(found.end(), extent.begin(), extent.begin() + count);
      }
      CHECK(found == expected[bucket]);
      if (found.empty()) continue;
      uint64_t last = 0;
      reader.read_record(bucket, found.size() - 1, &last);
      CHECK(last == found.back());
    }
  }
}

TEST(a_cut_or_changed_directory_is_noticed) {
  const Scratch scratch;
  io::BucketWriter writer(scratch.create(), io::bucket_shape(3, sizeof(uint64_t), 64));
  for (uint64_t i = 0; i < 100; ++i) writer.append(i % 3, &i);
  writer.finish();
  const uint64_t size = std::filesystem::file_size(scratch.path);
  std::filesystem::resize_file(scratch.path, size - 1);
  CHECK_THROWS(io::BucketReader(scratch.open()), ErrorKind::corrupt);
  std::filesystem::resize_file(scratch.path, 3);
  CHECK_THROWS(io::BucketReader(scratch.open()), ErrorKind::corrupt);
}

}  // namespace
}  // namespace bigrain
