// SPDX-License-Identifier: Apache-2.0
// Systems that refuse, interrupt and fail: the bytes are right or the answer is an error.
#include <array>
#include <cerrno>

#include "block_fixture.h"
#include "faulty_file_system.h"
#include "io/read_progress.h"
#if __has_include(<linux/io_uring.h>)
#include <linux/io_uring.h>
#endif

namespace bigrain {
namespace {

using namespace fixture;

constexpr size_t kSize = 100 * io::kBlock;

// The kernel's io_uring, with whatever a container or a full machine may do to it.
class FaultyUring final : public io::UringCalls {
 public:
  int refuse_setup = 0;           // errno of every setup
  uint32_t refuse_flags = 0;      // setups with one of these are EINVAL, as on older kernels
  int refuse_enlist = 0;          // errno of every registration
  uint64_t fail_enter_every = 0;  // each n-th call fails ...
  int enter_error = EINTR;        // ... with this
  uint64_t shorten_every = 0;     // each n-th submission asks for half of its bytes
  uint64_t misdirect_every = 0;   // each n-th submission reads a descriptor that is not open
  uint64_t setups = 0, enters = 0, prepared = 0;

  static bool present() { return io::kernel_uring() != nullptr && probe(); }

  int setup(uint32_t entries, io::uring::Params* params) override {
    ++setups;
    if (refuse_setup != 0) return -refuse_setup;
    if ((params->flags & refuse_flags) != 0) return -EINVAL;
    return io::kernel_uring()->setup(entries, params);
  }
  int enter(int fd, uint32_t submit, uint32_t wait_for, uint32_t flags) override {
    if (fail_enter_every != 0 && ++enters % fail_enter_every == 0) return -enter_error;
    return io::kernel_uring()->enter(fd, submit, wait_for, flags);
  }
  int enlist(int fd, uint32_t what, const void* items, uint32_t count) override {
    if (refuse_enlist != 0) return -refuse_enlist;
    return io::kernel_uring()->enlist(fd, what, items, count);
  }
  void prepare(io::uring::Sqe& sqe) override {
    ++prepared;
    if (shorten_every != 0 && prepared % shorten_every == 0 && sqe.length >= 1024) {
      sqe.length = sqe.length / 2 / 512 * 512;
    }
    if (misdirect_every != 0 && prepared % misdirect_every == 0) {
      sqe.fd = 1 << 20;
      sqe.flags = 0;
    }
  }

 private:
  static bool probe() {
    io::uring::Params params{};
    const int fd = io::kernel_uring()->setup(1, &params);
    if (fd >= 0) io::posix().close(fd);
    return fd >= 0;
  }
};

TEST(progress_of_a_read) {
  const io::BlockRead read = {8192, 8192, nullptr, 3};
  const auto after = [&](std::initializer_list<int64_t> returned, uint32_t alignment, bool more) {
    io::ReadProgress progress(read);
    bool again = true;
    for (const int64_t value : returned) {
      CHECK(again);
      again = progress.take(value, alignment);
    }
    CHECK_EQ(again, more);
    CHECK_EQ(progress.answer().tag, 3u);
    return more ? static_cast<int64_t>(progress.offset()) : progress.answer().result;
  };
  CHECK_EQ(after({8192}, 512, false), 8192);
  CHECK_EQ(after({-EIO}, 512, false), -EIO);
  CHECK_EQ(after({0}, 512, false), 0);
  CHECK_EQ(after({4096}, 512, true), 12288);
  CHECK_EQ(after({4096, 4096}, 512, false), 8192);
  CHECK_EQ(after({4096, 0}, 512, false), 4096);
  CHECK_EQ(after({4096, -EIO}, 512, false), -EIO);
  CHECK_EQ(after({1000}, 512, true), 8704);
  CHECK_EQ(after({1000, 488}, 512, false), 1000);
  CHECK_EQ(after({1000, 7680}, 512, false), 8192);
  CHECK_EQ(after({1000}, 1, true), 9192);
  CHECK_EQ(after({-EINTR, -EAGAIN, 8192}, 512, false), 8192);
  CHECK_EQ(after({9000}, 512, false), -EIO);
  io::ReadProgress refused(read);
  int attempts = 1;
  while (refused.take(-EAGAIN, 512)) ++attempts;
  CHECK_EQ(attempts, 1001);
  CHECK_EQ(refused.answer().result, -EAGAIN);
}

TEST(pread_continues_short_and_interrupted_reads) {
  const BlockData data(kSize);
  FaultyFileSystem files;
  files.largest_transfer = 1000;
  files.interrupt_every = 3;
  const io::BlockFile file = data.open("pread:direct=0,threads=4", {.files = &files});
  CHECK_EQ(read_at_random(data, file, 8, 300).right, 300u);
}

TEST(pread_reports_errors_and_goes_on) {
  const BlockData data(kSize);
  FaultyFileSystem files;
  const io::BlockFile file = data.open("pread", {.files = &files});
  for (const uint64_t every : {2, 8, 32, 128}) {
    files.fail_read_every = every;
    const Outcome outcome = read_at_random(data, file, 8, 1280, every);
    CHECK_EQ(outcome.wrong, 0u);
    CHECK_EQ(outcome.errors, 1280 / every);
    CHECK_EQ(outcome.right, 1280 - 1280 / every);
  }
}

TEST(without_direct_reads_the_page_cache_serves) {
  const BlockData data(kSize);
  FaultyFileSystem files;
  files.refuse_direct = EINVAL;
  const io::BlockFile file = data.open("auto", {.files = &files});
  CHECK(!file.direct());
  CHECK(contains(file.describe(), "page cache (O_DIRECT: Invalid argument)"));
  CHECK(std::count(files.calls.begin(), files.calls.end(), "advise_random") == 1);
  CHECK_EQ(read_at_random(data, file, 8, 100).right, 100u);
  files.refuse_direct = EACCES;
  CHECK_THROWS(data.open("auto", {.files = &files}), ErrorKind::io);
}

TEST(without_io_uring_threads_serve) {
  const BlockData data(kSize);
  FaultyUring calls;
  for (const int error : {EPERM, ENOSYS, ENOMEM}) {
    calls.refuse_setup = error;
    const io::BlockFile file = data.open("auto", {.uring = &calls});
    CHECK(contains(file.describe(), "pread (up to 32 threads)"));
    CHECK(contains(file.describe(), "io_uring_setup: " + std::generic_category().message(error)));
    CHECK_EQ(read_at_random(data, file, 8, 100).right, 100u);
    try {
      data.open("uring", {.uring = &calls});
      CHECK(false);
    } catch (const Error& thrown) {
      CHECK_EQ(thrown.error_number(), error);
      CHECK_EQ(thrown.path(), data.path());
      CHECK(contains(thrown.what(), "use 'auto' or 'pread'"));
    }
  }
}

TEST(readers_that_get_no_ring_later_use_threads) {
  const BlockData data(kSize);
  if (!FaultyUring::present()) return;
  FaultyUring calls;
  const io::BlockFile file = data.open("auto", {.uring = &calls});
  CHECK(contains(file.describe(), "io_uring ("));
  calls.refuse_setup = EMFILE;
  CHECK_EQ(file.make_reader(4, 0)->describe(), "pread");
  CHECK_EQ(read_at_random(data, file, 8, 100).right, 100u);
}

TEST(rings_work_without_every_refinement) {
  const BlockData data(kSize);
  if (!FaultyUring::present()) return;
  using namespace io::uring;
  for (const uint32_t flags :
       {uint32_t{0}, kSetupDeferTaskrun, kSetupDeferTaskrun | kSetupCoopTaskrun}) {
    for (const int enlist : {0, ENOMEM}) {
      FaultyUring calls;
      calls.refuse_flags = flags;
      calls.refuse_enlist = enlist;
      const io::BlockFile file = data.open("uring", {.uring = &calls});
      CHECK_EQ(contains(file.describe(), "registered file, registered buffers"), enlist == 0);
      CHECK_EQ(contains(file.describe(), "plain file, plain buffers"), enlist != 0);
      CHECK(!contains(file.describe(), "deferred") || (flags & kSetupDeferTaskrun) == 0);
      CHECK(!contains(file.describe(), "cooperative") || (flags & kSetupCoopTaskrun) == 0);
      CHECK_EQ(read_at_random(data, file, 32, 500).right, 500u);
    }
  }
}

TEST(io_uring_continues_short_and_interrupted_reads) {
  const BlockData data(kSize);
  if (!FaultyUring::present()) return;
  FaultyUring calls;
  const io::BlockFile file = data.open("uring", {.uring = &calls});
  calls.shorten_every = 3;
  const auto reader = file.make_reader(16, RandomReads::arena_bytes(16));
  CHECK_EQ(RandomReads(data, *reader, 1).run(500).right, 500u);
  CHECK(reader->counts().again > 100);
  for (const int error : {EINTR, EAGAIN, EBUSY}) {
    calls.enter_error = error;
    calls.fail_enter_every = 3;
    CHECK_EQ(read_at_random(data, file, 16, 500).right, 500u);
  }
}

TEST(io_uring_reports_errors_and_goes_on) {
  const BlockData data(kSize);
  if (!FaultyUring::present()) return;
  FaultyUring calls;
  const io::BlockFile file = data.open("uring", {.uring = &calls});
  calls.misdirect_every = 8;
  const Outcome outcome = read_at_random(data, file, 16, 800);
  CHECK_EQ(outcome.wrong, 0u);
  CHECK_EQ(outcome.errors, 100u);
  CHECK_EQ(outcome.right, 700u);
}

TEST(a_submission_that_fails_leaves_a_usable_reader) {
  const BlockData data(kSize);
  if (!FaultyUring::present()) return;
  FaultyUring calls;
  const io::BlockFile file = data.open("uring", {.uring = &calls});
  const auto reader = file.make_reader(8, RandomReads::arena_bytes(8));
  const io::BlockRead read[] = {{0, io::kBlock, reader->arena().data(), 1}};
  calls.fail_enter_every = 1;
  for (const int error : {ENXIO, EAGAIN}) {
    calls.enter_error = error;
    CHECK_THROWS(reader->submit(read), ErrorKind::io);
    CHECK_EQ(reader->in_flight(), 0u);
  }
  calls.fail_enter_every = 0;
  CHECK_EQ(RandomReads(data, *reader, 1).run(100).right, 100u);
  CHECK_EQ(reader->counts().reads, 100u);
}

#if __has_include(<linux/io_uring.h>)
TEST(the_interface_is_the_kernels) {
  using namespace io::uring;
  CHECK_EQ(sizeof(Sqe), sizeof(io_uring_sqe));
  CHECK_EQ(offsetof(Sqe, address), offsetof(io_uring_sqe, addr));
  CHECK_EQ(offsetof(Sqe, user_data), offsetof(io_uring_sqe, user_data));
  CHECK_EQ(offsetof(Sqe, buffer_index), offsetof(io_uring_sqe, buf_index));
  CHECK_EQ(sizeof(Cqe), sizeof(io_uring_cqe));
  CHECK_EQ(sizeof(Params), sizeof(io_uring_params));
  CHECK_EQ(offsetof(Params, features), offsetof(io_uring_params, features));
  CHECK_EQ(offsetof(Params, cq), offsetof(io_uring_params, cq_off));
  CHECK_EQ(offsetof(CompletionOffsets, cqes), offsetof(io_cqring_offsets, cqes));
  CHECK_EQ(offsetof(SubmissionOffsets, array), offsetof(io_sqring_offsets, array));
  CHECK_EQ(kOpRead, IORING_OP_READ);
  CHECK_EQ(kOpReadFixed, IORING_OP_READ_FIXED);
  CHECK_EQ(kFixedFile, IOSQE_FIXED_FILE);
  CHECK_EQ(kRegisterBuffers, IORING_REGISTER_BUFFERS);
  CHECK_EQ(kRegisterFiles, IORING_REGISTER_FILES);
  CHECK_EQ(kEnterGetEvents, IORING_ENTER_GETEVENTS);
  CHECK_EQ(kFeatureSingleMmap, IORING_FEAT_SINGLE_MMAP);
  CHECK_EQ(kMapSqes, IORING_OFF_SQES);
#ifdef IORING_SETUP_DEFER_TASKRUN
  CHECK_EQ(kSetupCoopTaskrun, IORING_SETUP_COOP_TASKRUN);
  CHECK_EQ(kSetupTaskrunFlag, IORING_SETUP_TASKRUN_FLAG);
  CHECK_EQ(kSetupSingleIssuer, IORING_SETUP_SINGLE_ISSUER);
  CHECK_EQ(kSetupDeferTaskrun, IORING_SETUP_DEFER_TASKRUN);
  CHECK_EQ(kRingTaskrun, IORING_SQ_TASKRUN);
#endif
}
#endif

}  // namespace
}  // namespace bigrain
