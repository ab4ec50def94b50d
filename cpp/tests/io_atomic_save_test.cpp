// SPDX-License-Identifier: Apache-2.0
#include "io/atomic_save.h"

#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "faulty_file_system.h"
#include "format_fixture.h"

namespace bigrain {
namespace {

using namespace fixture;

Bytes text(const std::string& letters) {
  const auto span = std::as_bytes(std::span(letters));
  return Bytes(span.begin(), span.end());
}

const std::string kOld(5'000, 'o'), kNew(7'000, 'n');

// Three writes, so that there is a middle.
void save(io::FileSystem& files, const std::string& path, const std::string& content = kNew) {
  io::atomic_save(files, path, [&](io::File& file) {
    const size_t third = content.size() / 3;
    file.write(0, content.data(), third);
    file.write(third, content.data() + third, third);
    file.write(2 * third, content.data() + 2 * third, content.size() - 2 * third);
  });
}

size_t entries_of(const TemporaryDirectory& directory) {
  const auto entries = std::filesystem::directory_iterator(directory.path());
  return static_cast<size_t>(std::distance(begin(entries), end(entries)));
}

int errno_of_save(io::FileSystem& files, const std::string& path) {
  try {
    save(files, path);
  } catch (const Error& error) {
    CHECK_EQ(error.kind(), ErrorKind::io);
    CHECK(contains(error.what(), error.path()));
    return error.error_number();
  }
  return 0;
}

TEST(the_calls_of_a_save_in_order) {
  const TemporaryDirectory directory;
  FaultyFileSystem files;
  save(files, directory / "a");
  const std::vector<std::string> expected = {"lstat",  "list",           "create", "fstat",
                                             "pwrite", "pwrite",         "pwrite", "fsync",
                                             "rename", "sync_directory", "close"};
  CHECK(files.calls == expected);
}

// Whichever call fails, with whatever error: old or new, nothing else in the directory, and an
// error exactly when the new content might not be there after a power failure.
TEST(every_call_may_fail) {
  for (const int error : {EIO, ENOSPC, EDQUOT, EACCES, EROFS}) {
    for (uint64_t n = 0;; ++n) {
      const TemporaryDirectory directory;
      const std::string path = directory / "a";
      write_file(path, text(kOld));
      FaultyFileSystem files;
      files.fail_at = n;
      files.error = error;
      const int got = errno_of_save(files, path);
      if (files.calls.size() <= n) break;
      const std::string& call = files.calls[n];
      const bool harmless =
          call == "list" || call == "close" || (call == "sync_directory" && error == EACCES);
      CHECK_EQ(got, harmless ? 0 : error);
      const Bytes now = read_file(path);
      const bool renamed = harmless || call == "sync_directory";
      CHECK(now == text(renamed ? kNew : kOld));
      CHECK_EQ(entries_of(directory), 1u);
    }
  }
}

TEST(a_full_disk_at_every_byte_leaves_the_old_file_and_a_retry_succeeds) {
  const TemporaryDirectory directory;
  const std::string path = directory / "a";
  for (uint64_t room = 0; room < kNew.size(); room += 97) {
    write_file(path, text(kOld));
    FaultyFileSystem files;
    files.disk_full_after = room;
    CHECK_EQ(errno_of_save(files, path), ENOSPC);
    CHECK(read_file(path) == text(kOld));
    CHECK_EQ(entries_of(directory), 1u);
    files.disk_full_after = FaultyFileSystem::kNever;
    CHECK_EQ(errno_of_save(files, path), 0);
    CHECK(read_file(path) == text(kNew));
  }
}

TEST(a_kill_before_every_call_leaves_old_or_new_and_at_most_one_leftover) {
  for (const bool halfway : {false, true}) {
    for (uint64_t n = 0;; ++n) {
      const TemporaryDirectory directory;
      const std::string path = directory / "a";
      write_file(path, text(kOld));
      bool reached = false;
      {
        FaultyFileSystem files;
        files.kill_before = n;
        files.kill_halfway = halfway;
        errno_of_save(files, path);
        reached = files.calls.size() > n;
      }
      const Bytes now = read_file(path);
      CHECK(now == text(kOld) || now == text(kNew));
      CHECK(entries_of(directory) <= 2u);
      save(io::posix(), path);
      CHECK(read_file(path) == text(kNew));
      CHECK_EQ(entries_of(directory), 1u);
      if (!reached) break;
    }
  }
}

TEST(an_exception_while_writing_leaves_nothing_behind) {
  const TemporaryDirectory directory;
  const std::string path = directory / "a";
  const auto write = [](io::File& file) {
    file.write(0, "x", 1);
    throw Error::cancelled();
  };
  CHECK_THROWS((io::atomic_save(io::posix(), path, write), 0), ErrorKind::cancelled);
  CHECK_EQ(entries_of(directory), 0u);
}

// Another save to the same path is under way: its file is not taken for a leftover.
TEST(a_file_being_written_is_not_a_leftover) {
  const TemporaryDirectory directory;
  const std::string path = directory / "a";
  io::atomic_save(io::posix(), path, [&](io::File& file) {
    save(io::posix(), path, kOld);
    file.write(0, kNew.data(), kNew.size());
  });
  CHECK(read_file(path) == text(kNew));
  CHECK_EQ(entries_of(directory), 1u);
}

TEST(similar_names_are_not_leftovers) {
  const TemporaryDirectory directory;
  for (const char* name :
       {"a.bigrain-1", ".a.bigrain-", ".b.bigrain-1-0", ".a.bigrain-notes", ".a.bigrain", "a"}) {
    write_file(directory / name, text(kOld));
  }
  write_file(directory / ".a.bigrain-12-00ff", text(kOld));
  save(io::posix(), directory / "a");
  CHECK_EQ(entries_of(directory), 6u);
}

TEST(whoever_has_the_old_file_open_keeps_reading_it) {
  const TemporaryDirectory directory;
  const std::string path = directory / "a";
  write_file(path, text(kOld));
  const io::File reader = io::File::open(io::posix(), path);
  save(io::posix(), path);
  Bytes bytes(kOld.size());
  CHECK_EQ(reader.read(0, bytes.data(), bytes.size()), kOld.size());
  CHECK(bytes == text(kOld));
}

TEST(symbolic_links_are_followed) {
  const TemporaryDirectory directory;
  std::filesystem::create_directory(directory / "sub");
  write_file(directory / "sub/real", text(kOld));
  std::filesystem::create_symlink("sub/real", directory / "link");
  std::filesystem::create_symlink(directory / "link", directory / "link2");
  save(io::posix(), directory / "link2");
  CHECK(std::filesystem::is_symlink(directory / "link"));
  CHECK(std::filesystem::is_symlink(directory / "link2"));
  CHECK(read_file(directory / "sub/real") == text(kNew));
  // One that leads to nothing yet.
  std::filesystem::create_symlink("sub/fresh", directory / "dangling");
  save(io::posix(), directory / "dangling");
  CHECK(read_file(directory / "sub/fresh") == text(kNew));
  CHECK(std::filesystem::is_symlink(directory / "dangling"));
  std::filesystem::create_symlink("loop", directory / "loop");
  CHECK_EQ(errno_of_save(io::posix(), directory / "loop"), ELOOP);
}

TEST(targets_that_cannot_be) {
  const TemporaryDirectory directory;
  std::filesystem::create_directory(directory / "sub");
  const std::string pipe = directory / "pipe";
  CHECK_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  write_file(directory / "file", text(kOld));
  CHECK_EQ(errno_of_save(io::posix(), directory / "sub"), EISDIR);
  CHECK_EQ(errno_of_save(io::posix(), directory / "sub/"), EISDIR);
  CHECK_EQ(errno_of_save(io::posix(), ""), ENOENT);
  CHECK_EQ(errno_of_save(io::posix(), directory / "missing/a"), ENOENT);
  CHECK_EQ(errno_of_save(io::posix(), directory / "file/a"), ENOTDIR);
  CHECK_EQ(errno_of_save(io::posix(), directory / std::string(256, 'x')), ENAMETOOLONG);
  CHECK_EQ(errno_of_save(io::posix(), pipe), EINVAL);
  CHECK_EQ(errno_of_save(io::posix(), "/dev/null"), EINVAL);
}

TEST(the_longest_name_works) {
  const TemporaryDirectory directory;
  std::string name(251, 'x');
  name += "\xF0\x9F\x8C\xBE";  // one character of four bytes
  save(io::posix(), directory / name);
  CHECK(read_file(directory / name) == text(kNew));
  std::string accents;
  for (int i = 0; i < 127; ++i) accents += "\xC3\xA9";
  save(io::posix(), directory / ("x" + accents));
  CHECK_EQ(entries_of(directory), 2u);
}

TEST(a_relative_path_without_a_directory_works) {
  const TemporaryDirectory directory;
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(directory.path());
  save(io::posix(), "a");
  std::filesystem::current_path(before);
  CHECK(read_file(directory / "a") == text(kNew));
  CHECK_EQ(entries_of(directory), 1u);
}

TEST(permissions_are_kept) {
  const TemporaryDirectory directory;
  const std::string path = directory / "a";
  write_file(path, text(kOld));
  CHECK_EQ(::chmod(path.c_str(), 0600), 0);
  save(io::posix(), path);
  const auto permissions = std::filesystem::status(path).permissions();
  CHECK_EQ(static_cast<unsigned>(permissions), 0600u);
}

}  // namespace
}  // namespace bigrain
