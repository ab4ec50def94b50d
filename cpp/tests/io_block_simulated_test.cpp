// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <cmath>
#include <thread>

#include "block_fixture.h"
#include "io/io_choice.h"

namespace bigrain {
namespace {

using namespace fixture;

constexpr size_t kSize = 200 * io::kBlock;

struct Run {
  Outcome outcome;
  io::ReadCounts counts;
};

Run run(const BlockData& data, const std::string& choice, size_t depth, uint64_t reads) {
  const auto reader = data.open(choice).make_reader(depth, RandomReads::arena_bytes(depth));
  const Outcome outcome = RandomReads(data, *reader, 5).run(reads);
  return {outcome, reader->counts()};
}

TEST(the_order_follows_from_the_seed) {
  const BlockData data(kSize);
  const std::string choice = "simulated:reorder=1,iops=40000,error_rate=0.02,short_rate=0.1,seed=";
  const Run first = run(data, choice + "1", 32, 1000);
  const Run second = run(data, choice + "1", 32, 1000);
  CHECK(first.outcome.order == second.outcome.order);
  CHECK_EQ(first.outcome.errors, second.outcome.errors);
  CHECK_EQ(first.counts.virtual_ns, second.counts.virtual_ns);
  CHECK(first.outcome.order != run(data, choice + "2", 32, 1000).outcome.order);
}

TEST(without_reorder_answers_come_as_asked) {
  const BlockData data(kSize);
  const auto reader = data.open("simulated:latency_us=80").make_reader(8, 8 * io::kBlock);
  std::vector<io::BlockRead> reads;
  for (uint64_t i = 0; i < 8; ++i) {
    reads.push_back({i * io::kBlock, io::kBlock, reader->arena().data() + i * io::kBlock, i});
  }
  reader->submit(reads);
  std::vector<io::BlockDone> done(8);
  CHECK_EQ(reader->poll(done), 0u);  // time stands still until somebody waits
  CHECK(std::memcmp(reader->arena().data(), data.bytes().data(), io::kBlock) != 0);
  CHECK_EQ(reader->wait(done), 8u);  // no limit of speed: all at once
  for (uint64_t i = 0; i < 8; ++i) CHECK_EQ(done[i].tag, i);
  CHECK_EQ(reader->counts().virtual_ns, 80'000u);
}

TEST(latency_and_speed_are_kept) {
  const BlockData data(kSize);
  // One at a time: a latency each.
  const Run serial = run(data, "simulated:latency_us=100,iops=40000", 1, 200);
  CHECK_EQ(serial.counts.virtual_ns, 200u * 100'000);
  // Many at a time: the device's speed, and the last one's latency.
  const Run parallel = run(data, "simulated:latency_us=100,iops=40000", 64, 2000);
  CHECK_NEAR(static_cast<double>(parallel.counts.virtual_ns) / 1e9, 2000.0 / 40'000, 0.002);
  // In between: as many latencies as there are rounds.
  const Run unlimited = run(data, "simulated:latency_us=100", 4, 400);
  CHECK(unlimited.counts.virtual_ns >= 400 / 4 * 100'000);
}

TEST(faults_come_at_their_rate_and_are_never_silent) {
  const BlockData data(kSize);
  const Run errors = run(data, "simulated:error_rate=0.125", 16, 4000);
  CHECK_EQ(errors.outcome.wrong, 0u);
  CHECK_NEAR(static_cast<double>(errors.outcome.errors) / 4000, 0.125, 0.02);
  CHECK_EQ(errors.counts.failures, errors.outcome.errors);
  const Run shorts = run(data, "simulated:short_rate=0.25", 16, 4000);
  CHECK_EQ(shorts.outcome.right, 4000u);
  CHECK_NEAR(static_cast<double>(shorts.counts.again) / 4000, 1.0 / 3, 0.06);
  const Run damage = run(data, "simulated:damage_rate=0.125", 16, 4000);
  CHECK_NEAR(static_cast<double>(damage.outcome.wrong) / 4000, 0.125, 0.02);
  CHECK_EQ(damage.outcome.errors, 0u);
}

TEST(a_real_clock_is_shared_by_the_readers_of_a_file) {
  const BlockData data(kSize);
  const io::BlockFile file = data.open("simulated:clock=real,latency_us=10,iops=20000");
  const auto start = std::chrono::steady_clock::now();
  std::thread other([&] { CHECK_EQ(read_at_random(data, file, 16, 1000).right, 1000u); });
  CHECK_EQ(read_at_random(data, file, 16, 1000).right, 1000u);
  other.join();
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  CHECK(spent.count() >= 1999.0 / 20'000);
}

TEST(choices_are_parsed) {
  CHECK(io::parse_io_choice("auto").backend == io::IoBackend::automatic);
  CHECK(!io::parse_io_choice("uring:direct=0").direct);
  CHECK_EQ(io::parse_io_choice("pread:threads=8,direct=1").pread_threads, 8u);
  const io::IoChoice choice = io::parse_io_choice(
      "simulated:latency_us=12.5,iops=40000,seed=18446744073709551615,error_rate=0.01,"
      "short_rate=1,damage_rate=0,reorder=1,clock=real");
  CHECK(choice.backend == io::IoBackend::simulated);
  CHECK_EQ(choice.device.latency_ns, 12'500u);
  CHECK_EQ(choice.device.iops, 40'000u);
  CHECK_EQ(choice.device.seed, UINT64_MAX);
  CHECK_NEAR(choice.device.error_rate, 0.01, 1e-12);
  CHECK_EQ(choice.device.short_rate, 1.0);
  CHECK(choice.device.reorder && choice.device.real_time);
}

TEST(bad_choices_are_named) {
  for (const std::string text : {"",
                                 "mmap",
                                 "auto:",
                                 "auto:direct",
                                 "auto:direct=2",
                                 "auto:depth=3",
                                 "uring:threads=2",
                                 "pread:threads=257",
                                 "pread:threads=",
                                 "pread:threads=-1",
                                 "simulated:error_rate=1.5",
                                 "simulated:error_rate=nan",
                                 "simulated:latency_us=1e3",
                                 "simulated:latency_us=99999999",
                                 "simulated:seed=1.5",
                                 "simulated:seed=18446744073709551616",
                                 "simulated:clock=slow",
                                 "simulated:direct=0",
                                 "simulated:iops=.",
                                 "simulated:reorder=1,,"}) {
    if (text == "auto:") {  // nothing follows the colon, and nothing is wrong with that
      CHECK(io::parse_io_choice(text).direct);
      continue;
    }
    try {
      io::parse_io_choice(text);
      CHECK_EQ(text, "refused");
    } catch (const Error& error) {
      CHECK_EQ(error.kind(), ErrorKind::invalid_argument);
      CHECK(contains(error.what(), "io='" + text + "'"));
    }
  }
}

}  // namespace
}  // namespace bigrain
