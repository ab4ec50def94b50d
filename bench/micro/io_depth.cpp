// SPDX-License-Identifier: Apache-2.0
// Reads of 4 KiB at random a second, by reads in flight, beside those of fio where it is installed:
// g++ -O2 -std=c++20 -pthread -Icpp -Icpp/include bench/micro/io_depth.cpp
//     build/default/cpp/libbigrain.a -o build/io_depth && build/io_depth FILE [SECONDS [ROUNDS]]
// Medians of rounds in which all take turns, and the processor time of this process per read.
// "unregistered" is io_uring without registered file and buffers; "cooperative" and "interrupting"
// are io_uring without the flags of newer kernels.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include "bigrain/error.h"
#include "io/block_file.h"
#include "util/rng.h"

namespace {

using namespace bigrain;
using namespace bigrain::io;
using Clock = std::chrono::steady_clock;

class OlderKernel final : public UringCalls {
 public:
  explicit OlderKernel(uint32_t unknown, bool registers = true)
      : unknown_(unknown), registers_(registers) {}
  int setup(uint32_t entries, uring::Params* params) override {
    if ((params->flags & unknown_) != 0) return -EINVAL;
    return kernel_uring()->setup(entries, params);
  }
  int enter(int fd, uint32_t submit, uint32_t wait_for, uint32_t flags) override {
    return kernel_uring()->enter(fd, submit, wait_for, flags);
  }
  int enlist(int fd, uint32_t what, const void* items, uint32_t count) override {
    return registers_ ? kernel_uring()->enlist(fd, what, items, count) : -ENOMEM;
  }

 private:
  const uint32_t unknown_;
  const bool registers_;
};

struct Rate {
  double per_second = 0, cpu_us = 0;
};

Rate measure(const BlockFile& file, size_t depth, double seconds, uint64_t seed) {
  const auto reader = file.make_reader(depth, depth * kBlock);
  Rng rng(seed);
  const auto next = [&](uint64_t slot) {
    return BlockRead{rng.bounded(file.size() / kBlock) * kBlock, kBlock,
                     reader->arena().data() + slot * kBlock, slot};
  };
  std::vector<BlockRead> reads;
  for (uint64_t slot = 0; slot < depth; ++slot) reads.push_back(next(slot));
  std::vector<BlockDone> done(depth);
  const Clock::time_point start = Clock::now();
  const std::clock_t cpu = std::clock();
  std::chrono::duration<double> spent{0};
  uint64_t answered = 0;
  while (spent.count() < seconds) {
    reader->submit(reads);
    const size_t count = reader->wait(done);
    reads.clear();
    for (size_t i = 0; i < count; ++i) {
      if (done[i].result < 0) throw Error::io(-done[i].result, file.path(), "a read failed");
      reads.push_back(next(done[i].tag));
    }
    answered += count;
    spent = Clock::now() - start;
  }
  const double cpu_us = static_cast<double>(std::clock() - cpu) * 1e6 / CLOCKS_PER_SEC;
  return {static_cast<double>(answered) / spent.count(), cpu_us / static_cast<double>(answered)};
}

// The eighth field of fio's terse form, version 3: reads per second. 0: no fio.
double fio(const std::string& path, size_t depth, double seconds) {
  if (path.find('\'') != std::string::npos) return 0;
  const std::string command =
      "fio --name=a --readonly --rw=randread --bs=4k --direct=1 --ioengine=io_uring "
      "--randrepeat=0 --registerfiles=1 --fixedbufs=1 --time_based --minimal --filename='" +
      path + "' --iodepth=" + std::to_string(depth) +
      " --runtime=" + std::to_string(static_cast<int>(seconds * 1000)) + "ms" + " 2>/dev/null";
  FILE* pipe = popen(command.c_str(), "r");
  char line[4096] = "";
  const bool read = pipe != nullptr && fgets(line, sizeof line, pipe) != nullptr;
  if (pipe != nullptr) pclose(pipe);
  std::string rest = read ? line : "";
  for (int field = 0; field < 7; ++field) {
    const size_t end = rest.find(';');
    if (end == std::string::npos) return 0;
    rest.erase(0, end + 1);
  }
  return std::atof(rest.c_str());
}

template <class T, class Less>
T median(std::vector<T> values, Less less) {
  std::sort(values.begin(), values.end(), less);
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return std::puts("io_depth FILE [SECONDS [ROUNDS]]"), 2;
  const std::string path = argv[1];
  const double seconds = argc > 2 ? std::atof(argv[2]) : 1;
  const size_t rounds = argc > 3 ? std::strtoul(argv[3], nullptr, 10) : 7;
  OlderKernel plain(0, false), cooperative(uring::kSetupDeferTaskrun),
      interrupting(uring::kSetupTaskrunFlag);
  const std::vector<std::pair<std::string, BlockFile>> files = {
      {"uring", BlockFile::open(path, parse_io_choice("uring"))},
      {"unregistered", BlockFile::open(path, parse_io_choice("uring"), {.uring = &plain})},
      {"cooperative", BlockFile::open(path, parse_io_choice("uring"), {.uring = &cooperative})},
      {"interrupting", BlockFile::open(path, parse_io_choice("uring"), {.uring = &interrupting})},
      {"pread 8", BlockFile::open(path, parse_io_choice("pread:threads=8"))},
      {"pread 32", BlockFile::open(path, parse_io_choice("pread:threads=32"))},
      {"pread 128", BlockFile::open(path, parse_io_choice("pread:threads=128"))}};
  std::printf("%s\n%5s %9s", files[0].second.describe().c_str(), "depth", "fio");
  for (const auto& [name, file] : files) std::printf(" %9.12s (cpu)", name.c_str());
  std::puts("");
  for (const size_t depth : {1, 4, 16, 32, 64, 128}) {
    std::vector<std::vector<Rate>> rates(files.size());
    std::vector<double> peer;
    const size_t turns = files.size() + 1;
    for (size_t round = 0; round < rounds; ++round) {
      for (size_t turn = 0; turn < turns; ++turn) {
        const size_t i = (turn + round) % turns;  // whoever follows an idle moment finds credit
        if (i == files.size()) {
          peer.push_back(fio(path, depth, seconds));
        } else {
          rates[i].push_back(measure(files[i].second, depth, seconds, depth * 1000 + round));
        }
      }
    }
    std::printf("%5zu %9.0f", depth, median(peer, std::less<>()));
    for (const std::vector<Rate>& rate : rates) {
      const Rate middle =
          median(rate, [](const Rate& a, const Rate& b) { return a.per_second < b.per_second; });
      std::printf(" %9.0f %5.1f", middle.per_second, middle.cpu_us);
    }
    std::puts("");
  }
}
