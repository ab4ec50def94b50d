// SPDX-License-Identifier: Apache-2.0
#include "io/file.h"

#include <sys/stat.h>

#include <numeric>

#include "check.h"
#include "faulty_file_system.h"
#include "format_fixture.h"

namespace bigrain {
namespace {

using namespace fixture;

Bytes counting(size_t size) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 % 251);
  return bytes;
}

int errno_of_open(const std::string& path) {
  try {
    io::File::open(io::posix(), path);
  } catch (const Error& error) {
    CHECK_EQ(error.kind(), ErrorKind::io);
    CHECK_EQ(error.path(), path);
    CHECK(contains(error.what(), path));
    return error.error_number();
  }
  return 0;
}

TEST(reads_what_was_written) {
  const TemporaryDirectory directory;
  const Bytes bytes = counting(10'000);
  io::File file = io::File::create(io::posix(), directory / "a", 0600);
  file.write(0, bytes.data(), bytes.size());
  file.sync();
  const io::File reader = io::File::open(io::posix(), directory / "a");
  CHECK_EQ(reader.info().size, bytes.size());
  CHECK_EQ(reader.info().permissions, 0600u);
  Bytes back(bytes.size() + 1);
  CHECK_EQ(reader.read(0, back.data(), back.size()), bytes.size());
  back.resize(bytes.size());
  CHECK(back == bytes);
  CHECK_EQ(reader.read(20'000, back.data(), 1), 0u);
}

TEST(short_and_interrupted_transfers_are_continued) {
  const TemporaryDirectory directory;
  const Bytes bytes = counting(1'000);
  FaultyFileSystem files;
  files.largest_transfer = 7;
  files.interrupt_every = 3;
  io::File file = io::File::create(files, directory / "a", 0600);
  file.write(0, bytes.data(), bytes.size());
  file.sync();
  Bytes back(bytes.size());
  const io::File reader = io::File::open(files, directory / "a");
  CHECK_EQ(reader.read(0, back.data(), back.size()), back.size());
  CHECK(back == bytes);
}

TEST(a_file_is_created_only_once) {
  const TemporaryDirectory directory;
  const io::File file = io::File::create(io::posix(), directory / "a", 0600);
  CHECK_THROWS(io::File::create(io::posix(), directory / "a", 0600), ErrorKind::io);
}

TEST(only_regular_files_are_opened) {
  const TemporaryDirectory directory;
  CHECK_EQ(errno_of_open(directory / "missing"), ENOENT);
  CHECK_EQ(errno_of_open(directory.path().string()), EISDIR);
  CHECK_EQ(errno_of_open(directory / "missing/inside"), ENOENT);
  CHECK_EQ(errno_of_open(directory / std::string(300, 'x')), ENAMETOOLONG);
  const std::string pipe = directory / "pipe";
  CHECK_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  // A blocking open would never return here.
  CHECK_THROWS(io::File::open(io::posix(), pipe), ErrorKind::corrupt);
  CHECK_THROWS(io::File::open(io::posix(), "/dev/zero"), ErrorKind::corrupt);
}

TEST(descriptors_are_closed) {
  const TemporaryDirectory directory;
  write_file(directory / "a", counting(10));
  const auto open_files = [] {
    const auto entries = std::filesystem::directory_iterator("/dev/fd");
    return std::distance(begin(entries), end(entries));
  };
  const auto before = open_files();
  for (int i = 0; i < 100; ++i) {
    io::File::open(io::posix(), directory / "a");
    CHECK_THROWS(io::File::open(io::posix(), directory.path().string()), ErrorKind::io);
  }
  CHECK_EQ(open_files(), before);
}

}  // namespace
}  // namespace bigrain
