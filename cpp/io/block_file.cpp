// SPDX-License-Identifier: Apache-2.0
#include "io/block_file.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <system_error>
#include <utility>

#include "bigrain/error.h"
#include "io/file.h"
#include "io/pread_reader.h"
#include "io/process.h"
#include "io/simulated_reader.h"
#include "io/uring_reader.h"

namespace bigrain::io {

namespace {

// bench/micro/io_depth.cpp: the rates of a depth, with one thread for each read in flight.
constexpr uint32_t kPreadThreads = 32;

struct Opened {
  File file;
  uint32_t alignment = 1;  // of direct reads; 1: through the page cache
  std::string why;         // not direct
};

// Some file systems take the flag and refuse the reads.
int try_direct_read(const File& file) {
  const Arena arena(kBlock);
  const int64_t got = file.files().pread(file.descriptor(), arena.bytes().data(), kBlock, 0);
  return got == -EINVAL || got == -EOPNOTSUPP ? static_cast<int>(-got) : 0;
}

Opened open_cached(FileSystem& files, const std::string& path, const std::string& why) {
  Opened opened{File::open(files, path), 1, why};
  files.advise_random(opened.file.descriptor());  // a wish
  return opened;
}

Opened open_file(FileSystem& files, const std::string& path, bool direct) {
  if (!direct) return open_cached(files, path, "");
  int refused = 0;
  try {
    File file = File::open_direct(files, path);
    refused = try_direct_read(file);
    const int known = files.direct_alignment(file.descriptor());
    const uint32_t alignment = known > 0 ? static_cast<uint32_t>(known) : kBlock;
    if (refused == 0 && kBlock % alignment == 0) return {std::move(file), alignment, ""};
    if (refused == 0) {
      return open_cached(files, path, " (O_DIRECT: blocks of " + std::to_string(known) + ")");
    }
  } catch (const Error& error) {
    if (error.error_number() != EINVAL && error.error_number() != EOPNOTSUPP) throw;
    refused = error.error_number();
  }
  return open_cached(files, path, " (O_DIRECT: " + std::generic_category().message(refused) + ")");
}

// The pool of one process: fork() does not carry threads over, so a child makes its own and leaves
// the other where it is.
struct PoolOfProcess {
  PoolOfProcess(const File& file, uint32_t alignment, uint32_t threads)
      : pool(file, alignment, threads) {}
  const uint32_t generation = process_generation();
  PreadPool pool;
};

}  // namespace

struct BlockFile::State {
  State(Opened opened, const IoChoice& wanted, UringCalls* calls)
      : file(std::move(opened.file)),
        alignment(opened.alignment),
        where(opened.alignment > 1 ? "O_DIRECT" : "page cache" + opened.why),
        choice(wanted),
        uring(calls),
        info(file.info()),
        device(std::make_shared<DeviceQueue>(wanted.device.iops)) {}
  ~State() {
    const PoolOfProcess* last = pool.load();
    if (last != nullptr && last->generation == process_generation()) delete last;
  }

  void choose();
  std::string try_ring();
  PreadPool& pread_pool();
  std::unique_ptr<BlockReader> make_reader(size_t depth, size_t arena_bytes);
  uint32_t pread_threads() const {
    return choice.pread_threads == 0 ? kPreadThreads : choice.pread_threads;
  }

  const File file;
  const uint32_t alignment;
  const std::string where;
  const IoChoice choice;
  UringCalls* const uring;
  const FileInfo info;
  const std::shared_ptr<DeviceQueue> device;
  IoBackend backend = IoBackend::pread;  // what was chosen: never automatic
  std::string words;                     // for describe()
  std::atomic<PoolOfProcess*> pool{nullptr};
};

// What a ring that works has registered. Throws Error(io) where none works.
std::string BlockFile::State::try_ring() {
  if (uring == nullptr) throw Error::io(ENOSYS, file.path(), "io_uring: only Linux has it");
  UringReader reader(file, *uring, alignment, 1, kBlock);
  const BlockRead first[] = {{0, kBlock, reader.arena().data(), 0}};
  std::array<BlockDone, 1> done;
  reader.submit(first);
  reader.wait(done);
  // A disk that cannot read its first block is not the ring's fault.
  const int refused = done[0].result < 0 && done[0].result != -EIO ? -done[0].result : 0;
  if (refused != 0) {
    throw Error::io(refused, file.path(),
                    "reading by io_uring: " + std::generic_category().message(refused));
  }
  return reader.describe();
}

void BlockFile::State::choose() {
  const std::string threads = "pread (up to " + std::to_string(pread_threads()) + " threads), ";
  if (choice.backend == IoBackend::simulated) {
    backend = IoBackend::simulated;
    words = "simulated, page cache";
    return;
  }
  words = threads + where;
  if (choice.backend == IoBackend::pread) return;
  try {
    words = "io_uring (" + try_ring() + "), " + where;
    backend = IoBackend::uring;
  } catch (const Error& error) {
    if (choice.backend == IoBackend::uring) {
      throw Error::io(error.error_number(), file.path(),
                      "io='uring': cannot read '" + file.path() + "' so: " + error.what() +
                          "; use 'auto' or 'pread'");
    }
    words += "; " + std::string(error.what());
  }
}

PreadPool& BlockFile::State::pread_pool() {
  PoolOfProcess* found = pool.load();
  while (found == nullptr || found->generation != process_generation()) {
    auto made = std::make_unique<PoolOfProcess>(file, alignment, pread_threads());
    if (pool.compare_exchange_strong(found, made.get())) found = made.release();
  }
  return found->pool;
}

std::unique_ptr<BlockReader> BlockFile::State::make_reader(size_t depth, size_t arena_bytes) {
  if (backend == IoBackend::simulated) {
    const auto queue =
        choice.device.real_time ? device : std::make_shared<DeviceQueue>(choice.device.iops);
    return std::make_unique<SimulatedReader>(file, choice.device, queue, depth, arena_bytes);
  }
  if (backend == IoBackend::uring) {
    try {
      return std::make_unique<UringReader>(file, *uring, alignment, depth, arena_bytes);
    } catch (const Error&) {  // such as no more descriptors, or locked memory
      if (choice.backend == IoBackend::uring) throw;
    }
  }
  return std::make_unique<PreadReader>(file.path(), pread_pool(), depth, arena_bytes);
}

BlockFile BlockFile::open(const std::string& path, const IoChoice& choice, const IoSystem& system) {
  FileSystem& files = system.files == nullptr ? posix() : *system.files;
  // What a simulated device reads need not come from a real one.
  const bool direct = choice.direct && choice.backend != IoBackend::simulated;
  auto state = std::make_shared<State>(open_file(files, path, direct), choice,
                                       system.uring == nullptr ? kernel_uring() : system.uring);
  state->choose();
  return BlockFile(std::move(state));
}

std::unique_ptr<BlockReader> BlockFile::make_reader(size_t depth, size_t arena_bytes) const {
  if (depth == 0 || depth > kMaxDepth) {
    throw Error::invalid("reads in flight of '" + path() + "': " + std::to_string(depth) +
                         ", must be from 1 to " + std::to_string(kMaxDepth));
  }
  auto reader = state_->make_reader(depth, arena_bytes);
  reader->keep(state_);
  return reader;
}

const std::string& BlockFile::path() const { return state_->file.path(); }
const FileInfo& BlockFile::info() const { return state_->info; }
bool BlockFile::direct() const { return state_->alignment > 1; }
std::string BlockFile::describe() const { return state_->words; }

}  // namespace bigrain::io
