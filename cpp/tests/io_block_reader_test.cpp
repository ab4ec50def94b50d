// SPDX-License-Identifier: Apache-2.0
#include "io/block_reader.h"

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <thread>

#include "block_fixture.h"
#include "io/file.h"

namespace bigrain {
namespace {

using namespace fixture;

// 300 blocks and a bit.
constexpr size_t kSize = 300 * io::kBlock + 1234;

// "uring" only where this machine has it.
std::vector<std::string> choices(const BlockData& data) {
  std::vector<std::string> all = {"auto",
                                  "pread",
                                  "pread:direct=0",
                                  "pread:threads=1",
                                  "simulated:latency_us=50",
                                  "simulated:reorder=1,iops=40000,short_rate=0.1",
                                  "simulated:clock=real,latency_us=5"};
  if (contains(data.open("auto").describe(), "io_uring (")) {
    all.insert(all.end(), {"uring", "uring:direct=0"});
  }
  return all;
}

TEST(reads_are_those_of_the_file_at_every_depth) {
  const BlockData data(kSize);
  for (const std::string& choice : choices(data)) {
    const io::BlockFile file = data.open(choice);
    CHECK_EQ(file.size(), kSize);
    for (const size_t depth : {1, 2, 7, 32, 128}) {
      const Outcome outcome = read_at_random(data, file, depth, 600, depth);
      CHECK_EQ(outcome.right, 600u);
      CHECK_EQ(outcome.errors + outcome.wrong, 0u);
    }
  }
}

TEST(tags_come_back_once_each) {
  const BlockData data(kSize);
  for (const std::string& choice : choices(data)) {
    const auto reader = data.open(choice).make_reader(16, 16 * io::kBlock);
    std::vector<io::BlockRead> reads;
    for (uint64_t i = 0; i < 16; ++i) {
      reads.push_back(
          {i * io::kBlock, io::kBlock, reader->arena().data() + i * io::kBlock, UINT64_MAX - i});
    }
    reader->submit(reads);
    CHECK_EQ(reader->in_flight(), 16u);
    std::vector<bool> seen(16);
    std::array<io::BlockDone, 3> done;
    while (const size_t count = reader->wait(done)) {
      for (size_t i = 0; i < count; ++i) {
        const uint64_t number = UINT64_MAX - done[i].tag;
        CHECK(number < 16 && !seen[number]);
        seen[number] = true;
        CHECK(data.holds(reads[number], done[i].result));
      }
    }
    CHECK_EQ(std::count(seen.begin(), seen.end(), true), 16);
    CHECK_EQ(reader->counts().reads, 16u);
    CHECK_EQ(reader->counts().bytes, 16u * io::kBlock);
    CHECK_EQ(reader->poll(done), 0u);
  }
}

TEST(the_end_of_the_file_shortens_reads) {
  const BlockData data(kSize);
  for (const std::string& choice : choices(data)) {
    const auto reader = data.open(choice).make_reader(4, 4 * io::kBlock);
    std::byte* to = reader->arena().data();
    const std::pair<uint64_t, int32_t> cases[] = {
        {299, 4096 + 1234}, {300, 1234}, {301, 0}, {1'000'000, 0}};
    for (const auto& [block, expected] : cases) {
      const io::BlockRead read[] = {{block * io::kBlock, 2 * io::kBlock, to, 5}};
      reader->submit(read);
      std::array<io::BlockDone, 1> done;
      CHECK_EQ(reader->wait(done), 1u);
      CHECK_EQ(done[0].result, expected);
      CHECK(data.holds(read[0], done[0].result));
    }
  }
}

TEST(reads_that_break_the_rules_are_refused_whole) {
  const BlockData data(kSize);
  for (const std::string& choice : choices(data)) {
    const auto reader = data.open(choice).make_reader(2, 4 * io::kBlock);
    std::byte* to = reader->arena().data();
    std::vector<std::byte> elsewhere(2 * io::kBlock);
    const io::BlockRead good = {0, io::kBlock, to, 0};
    const io::BlockRead bad[] = {{512, io::kBlock, to, 0},
                                 {0, 512, to, 0},
                                 {0, 0, to, 0},
                                 {0, io::kBlock, to + 512, 0},
                                 {0, io::kBlock, elsewhere.data(), 0},
                                 {0, io::kBlock, nullptr, 0},
                                 {0, io::kBlock, to + 4 * io::kBlock, 0},
                                 {0, 5 * io::kBlock, to, 0},
                                 {0, uint32_t{1} << 31, to, 0},
                                 {uint64_t{1} << 63, io::kBlock, to, 0}};
    for (const io::BlockRead& read : bad) {
      CHECK_THROWS(reader->submit(std::array{good, read}), ErrorKind::invalid_argument);
    }
    CHECK_THROWS(reader->submit(std::array{good, good, good}), ErrorKind::invalid_argument);
    CHECK_EQ(reader->in_flight(), 0u);
    CHECK_EQ(reader->counts().reads, 0u);
    reader->submit(std::array{good});
    CHECK_THROWS(reader->submit(std::array{good, good}), ErrorKind::invalid_argument);
    CHECK_EQ(reader->in_flight(), 1u);
  }
  const io::BlockFile file = data.open("auto");
  CHECK_THROWS(file.make_reader(0, io::kBlock), ErrorKind::invalid_argument);
  CHECK_THROWS(file.make_reader(io::BlockFile::kMaxDepth + 1, 0), ErrorKind::invalid_argument);
  CHECK_EQ(file.make_reader(io::BlockFile::kMaxDepth, 0)->in_flight(), 0u);
}

void fill(io::BlockReader& reader) {
  for (uint64_t i = 0; i < reader.depth(); ++i) {
    reader.submit(std::array{
        io::BlockRead{i * io::kBlock, io::kBlock, reader.arena().data() + i * io::kBlock, i}});
  }
}

TEST(readers_may_end_with_reads_in_flight) {
  const BlockData data(kSize);
  for (const std::string& choice : choices(data)) {
    std::optional<io::BlockFile> file = data.open(choice);
    for (int i = 0; i < 30; ++i) {
      const auto reader = file->make_reader(64, 64 * io::kBlock);
      fill(*reader);
    }
    // Nor does it matter whether file or reader goes first.
    const auto last = file->make_reader(64, 64 * io::kBlock);
    file.reset();
    fill(*last);
  }
}

TEST(an_exception_leaves_nothing_behind) {
  const BlockData data(kSize);
  for (const std::string& choice : choices(data)) {
    const auto reader = data.open(choice).make_reader(64, 64 * io::kBlock);
    try {
      const io::DrainAtExit drain(*reader);
      fill(*reader);
      throw std::runtime_error("as Ctrl-C does");
    } catch (const std::runtime_error&) {
    }
    CHECK_EQ(reader->in_flight(), 0u);
    CHECK_EQ(RandomReads(data, *reader, 1).run(0).wrong, 0u);
  }
}

TEST(threads_with_a_reader_each_share_a_file) {
  const BlockData data(kSize);
  for (const std::string& choice : choices(data)) {
    const io::BlockFile file = data.open(choice);
    const auto work = [&](uint64_t seed) {
      for (int i = 0; i < 3; ++i) {
        CHECK_EQ(read_at_random(data, file, 16, 300, seed).right, 300u);
      }
    };
    std::thread other(work, 1);
    work(2);
    other.join();
  }
}

TEST(a_reader_may_change_hands_while_it_rests) {
  const BlockData data(kSize);
  for (const std::string& choice : choices(data)) {
    const auto reader = data.open(choice).make_reader(16, RandomReads::arena_bytes(16));
    for (uint64_t i = 0; i < 4; ++i) {
      std::thread([&] { CHECK_EQ(RandomReads(data, *reader, i).run(50).right, 50u); }).join();
      CHECK_EQ(RandomReads(data, *reader, i).run(50).right, 50u);
    }
  }
}

// Against the rules: the pages must not be freed all the same.
TEST(a_reader_may_end_after_the_thread_that_submitted) {
  const BlockData data(kSize);
  for (const std::string& choice : choices(data)) {
    auto reader = data.open(choice).make_reader(64, 64 * io::kBlock);
    std::thread([&] { fill(*reader); }).join();
    std::array<io::BlockDone, 64> done;
    try {
      while (reader->wait(done) != 0) {
      }
    } catch (const Error& error) {
      CHECK(contains(error.what(), "another thread submitted"));
    }
    reader.reset();
  }
}

TEST(an_open_file_outlives_its_name) {
  const BlockData data(kSize);
  for (const std::string& choice : choices(data)) {
    write_file(data.path() + "2", data.bytes());
    const io::BlockFile file = io::BlockFile::open(data.path() + "2", io::parse_io_choice(choice));
    std::filesystem::remove(data.path() + "2");
    write_file(data.path() + "2", {});
    const io::BlockFile other = io::BlockFile::open(data.path() + "2");
    CHECK(!file.info().same_file(other.info()));
    CHECK(other.info().same_file(io::File::open(io::posix(), data.path() + "2").info()));
    CHECK_EQ(read_at_random(data, file, 16, 100).right, 100u);
  }
}

TEST(a_file_cut_short_while_open_gives_short_reads) {
  const BlockData data(kSize);
  for (const std::string& choice : choices(data)) {
    write_file(data.path() + "2", data.bytes());
    const io::BlockFile file = io::BlockFile::open(data.path() + "2", io::parse_io_choice(choice));
    std::filesystem::resize_file(data.path() + "2", 150 * io::kBlock + 700);
    const Outcome outcome = read_at_random(data, file, 16, 400);
    CHECK_EQ(outcome.errors, 0u);
    CHECK(outcome.right > 100 && outcome.wrong > 100);  // "wrong": fewer bytes than asked
  }
}

// ThreadSanitizer does not support new threads in the child of a multi-threaded process.
#ifndef __SANITIZE_THREAD__
bool refuses_as_foreign(io::BlockReader& reader) {
  std::array<io::BlockDone, 1> done;
  try {
    reader.wait(done);
  } catch (const Error& error) {
    return error.error_number() == ECHILD && contains(error.what(), "before fork()");
  }
  return false;
}

// Not under AddressSanitizer: another thread may hold its allocator's lock at the fork, and the
// child then waits for ever, in the sanitizer, for that thread.
TEST(a_child_of_fork_makes_readers_of_its_own) {
  if (BIGRAIN_UNDER_SANITIZER) return;
  const BlockData data(kSize);
  for (const std::string& choice : choices(data)) {
    std::optional<io::BlockFile> file = data.open(choice);
    auto reader = file->make_reader(64, RandomReads::arena_bytes(64));
    CHECK_EQ(RandomReads(data, *reader, 1).run(100).right, 100u);
    fill(*reader);
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);  // a hang ends the child by a signal
      bool good = !reader->ours() && refuses_as_foreign(*reader);
      good = good && read_at_random(data, *file, 16, 200).right == 200;
      reader.reset();
      file.reset();
      _exit(good ? 0 : 1);
    }
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK(reader->drain());
    CHECK_EQ(RandomReads(data, *reader, 2).run(100).right, 100u);
  }
}
#endif

TEST(only_regular_files_are_opened) {
  const TemporaryDirectory directory;
  CHECK_THROWS(io::BlockFile::open(directory / "missing"), ErrorKind::io);
  CHECK_THROWS(io::BlockFile::open(directory.path().string()), ErrorKind::io);
  CHECK_THROWS(io::BlockFile::open("/dev/zero"), ErrorKind::corrupt);
  write_file(directory / "empty", {});
  const auto reader = io::BlockFile::open(directory / "empty").make_reader(1, io::kBlock);
  const io::BlockRead read[] = {{0, io::kBlock, reader->arena().data(), 0}};
  reader->submit(read);
  std::array<io::BlockDone, 1> done;
  CHECK_EQ(reader->wait(done), 1u);
  CHECK_EQ(done[0].result, 0);
}

}  // namespace
}  // namespace bigrain
