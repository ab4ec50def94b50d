// SPDX-License-Identifier: Apache-2.0
// Files of other kinds: the message says what was opened.
#include <sys/stat.h>
#include <unistd.h>

#include <string_view>

#include "check.h"
#include "format/sniff.h"
#include "format_fixture.h"
#include "io/file_system.h"

namespace bigrain {
namespace {

using namespace fixture;
using std::string_view_literals::operator""sv;

std::string message_of(const std::string& path) {
  Monitor monitor;
  for (const Verify verify : {Verify::header, Verify::off, Verify::full}) {
    try {
      format::open(io::posix(), path, verify, monitor);
      CHECK(false);
    } catch (const Error& error) {
      CHECK_EQ(error.kind(), ErrorKind::corrupt);
      CHECK(contains(error.what(), path));
      if (verify == Verify::full) return error.what();
    }
  }
  return "";
}

std::string message_for(std::string_view content) {
  const TemporaryDirectory directory;
  const std::string path = directory / "file";
  write_file(path, std::as_bytes(std::span(content)));
  return message_of(path);
}

std::string little_endian(std::initializer_list<uint64_t> numbers, size_t bytes, size_t size) {
  std::string out;
  for (const uint64_t number : numbers) {
    for (size_t i = 0; i < bytes; ++i) out += static_cast<char>(number >> (8 * i));
  }
  out.resize(size);
  return out;
}

TEST(kinds_with_a_signature) {
  const std::pair<std::string_view, const char*> cases[] = {
      {""sv, "an empty file"},
      {"\x7f"
       "ELF\x02\x01\x01\0\0\0"sv,
       "an ELF program"},
      {"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"sv, "a PNG image"},
      {"\x1f\x8b\x08\0abc"sv, "gzip"},
      {"PK\x03\x04\x14\0"sv, "a zip archive (.npz"},
      {"\x93NUMPY\x01\0v\0{'descr'"sv, "a NumPy array"},
      {"\x89HDF\r\n\x1a\n\0"sv, "an HDF5 file"},
      {"SQLite format 3\0\x10\0"sv, "an SQLite database"},
      {"version https://git-lfs.github.com/spec/v1\n"sv, "a Git LFS pointer"},
      {"<!DOCTYPE html><html>404</html>"sv, "an HTML page"},
      {"\x28\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\"}}            "sv, "a safetensors file"},
      {"\x80\x04\x95\x10\0\0\0\0\0\0\0}\x94."sv, "a Python pickle"},
      {"IxF2\x10\0\0\0\x05\0\0\0"sv, "a faiss index"},
      {"word 0.1 0.2\nother 0.3 0.4\n"sv, "text"},
      {"\xde\xad\xbe\xef\xca\xfe\xba\xbe\0\0"sv, "data of an unknown kind"},
  };
  for (const auto& [content, expected] : cases) {
    const std::string message = message_for(content);
    if (!contains(message, std::string("not a Bigrain index; this looks like ") + expected)) {
      CHECK_EQ(message, expected);
    }
  }
}

TEST(kinds_that_are_guessed) {
  const auto hnswlib = little_endian({0, 1'000, 900, 2'188, 2'180, 132, 0, 0}, 8, 4'096);
  CHECK(contains(message_for(hnswlib), "an hnswlib index"));
  CHECK(contains(message_for(little_endian({100}, 4, 404 * 1)), "fvecs or ivecs vectors of dim"));
  CHECK(contains(message_for(little_endian({128}, 4, 132 * 1)), "bvecs vectors of dimension 128"));
  CHECK(contains(message_for(little_endian({70'000, 3}, 4, 8 + 70'000 * 12)),
                 "fbin or ibin vectors, 70000 of dimension 3"));
  CHECK(contains(message_for(little_endian({70'001, 3}, 4, 8 + 70'001 * 3)), "u8bin or i8bin"));
  CHECK(contains(message_for(std::string(10'000, '\0')), "nothing but zeros"));
}

// However short and however random, a name comes out.
TEST(guessing_survives_anything) {
  Random random(6);
  for (int i = 0; i < 20'000; ++i) {
    Bytes head(below(random, 128));
    for (std::byte& byte : head) byte = static_cast<std::byte>(random() % 4 ? 0 : random());
    CHECK(!format::looks_like(head, random()).empty());
  }
}

TEST(a_large_sparse_file_is_refused_at_once) {
  const TemporaryDirectory directory;
  const std::string path = directory / "sparse";
  write_file(path, {});
  CHECK_EQ(::truncate(path.c_str(), off_t{5} << 30), 0);
  CHECK(contains(message_of(path), "nothing but zeros"));
  // The same behind a header that is right for a small index.
  const Bytes bytes = format::serialize(random_parts({.count = 10}));
  write_file(path, bytes);
  CHECK_EQ(::truncate(path.c_str(), off_t{5} << 30), 0);
  CHECK(contains(message_of(path), "something was appended"));
}

TEST(things_that_are_no_files) {
  const TemporaryDirectory directory;
  const std::string pipe = directory / "pipe";
  CHECK_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  CHECK(contains(message_of(pipe), "is a named pipe"));
  CHECK(contains(message_of("/dev/zero"), "is a device"));
  Monitor monitor;
  const std::string path = directory.path().string();
  CHECK_THROWS(format::open(io::posix(), path, Verify::full, monitor), ErrorKind::io);
  CHECK_THROWS(format::describe(io::posix(), path), ErrorKind::io);
}

TEST(a_header_cut_short_is_called_truncated) {
  const Bytes bytes = format::serialize(random_parts({.count = 10}));
  for (const size_t size : {1, 8, 9, 4'095}) {
    CHECK(contains(complaint(std::span(bytes).first(size)), "it is truncated"));
  }
}

}  // namespace
}  // namespace bigrain
