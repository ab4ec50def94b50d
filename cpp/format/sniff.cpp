// SPDX-License-Identifier: Apache-2.0
// A table of signatures, then guesses about kinds that have none. Guesses come with the numbers
// that they rest on. Nothing here decides anything: the result is only printed.
#include "format/sniff.h"

#include <algorithm>
#include <cstring>
#include <string_view>

namespace bigrain::format {

namespace {

using std::string_view_literals::operator""sv;

struct Signature {
  size_t offset;
  std::string_view bytes;
  const char* meaning;
};

constexpr Signature kSignatures[] = {
    {0, "\x93NUMPY"sv, "a NumPy array (.npy)"},
    {0, "PK\x03\x04"sv, "a zip archive (.npz, .pt or the like)"},
    {0, "\x89HDF\r\n\x1a\n"sv, "an HDF5 file"},
    {0, "SQLite format 3\0"sv, "an SQLite database"},
    {0,
     "\x7f"
     "ELF"sv,
     "an ELF program or library"},
    {0, "\x89PNG\r\n\x1a\n"sv, "a PNG image"},
    {0, "\xff\xd8\xff"sv, "a JPEG image"},
    {0, "%PDF-"sv, "a PDF document"},
    {0, "\x1f\x8b"sv, "gzip-compressed data"},
    {0, "BZh"sv, "bzip2-compressed data"},
    {0,
     "\xfd"
     "7zXZ\0"sv,
     "xz-compressed data"},
    {0, "\x28\xb5\x2f\xfd"sv, "zstd-compressed data"},
    {257, "ustar"sv, "a tar archive"},
    {0, "PAR1"sv, "a Parquet file"},
    {0, "ARROW1"sv, "an Arrow file"},
    {0, "GGUF"sv, "a GGUF model"},
    {0, "usearch"sv, "a USearch index"},
    {0, "version https://git-lfs"sv, "a Git LFS pointer; fetch the file itself with git lfs pull"},
    {0, "<!DOCTYPE"sv, "an HTML page; the download may have failed"},
    {0, "<html"sv, "an HTML page; the download may have failed"},
};

template <class T>
T load(std::span<const std::byte> head, size_t offset) {
  T value{};
  if (offset + sizeof value <= head.size()) std::memcpy(&value, head.data() + offset, sizeof value);
  return value;
}

bool plausible_dim(uint64_t dim) { return dim >= 1 && dim <= 65'536; }

bool is_text(std::span<const std::byte> head) {
  return std::all_of(head.begin(), head.end(), [](std::byte byte) {
    const auto c = std::to_integer<unsigned>(byte);
    return c >= 32 ? c != 127 : (c >= 8 && c <= 13);
  });
}

// An 8-byte length and then JSON.
bool is_safetensors(std::span<const std::byte> head) {
  return head.size() > 8 && load<uint64_t>(head, 0) <= 100'000'000 && head[8] == std::byte{'{'};
}

// The protocol byte, and the version after it.
bool is_pickle(std::span<const std::byte> head) {
  return head.size() > 2 && head[0] == std::byte{0x80} && head[1] >= std::byte{2} &&
         head[1] <= std::byte{5};
}

// Four letters, then the dimension.
bool is_faiss(std::span<const std::byte> head) {
  if (head.size() < 8 || head[0] != std::byte{'I'}) return false;
  const auto letter = [](std::byte byte) {
    const auto c = std::to_integer<unsigned char>(byte);
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return std::all_of(head.begin(), head.begin() + 4, letter) &&
         plausible_dim(load<uint32_t>(head, 4));
}

// Offset of level 0 (0), capacity, count, bytes per element, and two offsets inside an element.
bool is_hnswlib(std::span<const std::byte> head) {
  if (head.size() < 96) return false;
  const auto capacity = load<uint64_t>(head, 8), count = load<uint64_t>(head, 16);
  const auto element = load<uint64_t>(head, 24), label = load<uint64_t>(head, 32);
  const auto data = load<uint64_t>(head, 40);
  return load<uint64_t>(head, 0) == 0 && count <= capacity && capacity > 0 && data < label &&
         label + 8 == element && element < (1u << 20);
}

// Rows that each begin with their dimension.
std::string as_vecs(std::span<const std::byte> head, uint64_t size) {
  const uint64_t dim = load<uint32_t>(head, 0);
  if (head.size() < 4 || !plausible_dim(dim)) return "";
  for (const uint64_t item : {4, 1}) {
    const uint64_t row = 4 + dim * item;
    if (size % row != 0) continue;
    if (row + 4 <= head.size() && load<uint32_t>(head, row) != dim) continue;
    return std::string(item == 4 ? "fvecs or ivecs" : "bvecs") + " vectors of dimension " +
           std::to_string(dim);
  }
  return "";
}

// A count and a dimension, then the rows.
std::string as_bin(std::span<const std::byte> head, uint64_t size) {
  if (head.size() < 8) return "";
  const uint64_t rows = load<uint32_t>(head, 0), dim = load<uint32_t>(head, 4);
  if (!plausible_dim(dim) || rows == 0) return "";
  for (const uint64_t item : {4, 1}) {
    if (size != 8 + rows * dim * item) continue;
    return std::string(item == 4 ? "fbin or ibin" : "u8bin or i8bin") + " vectors, " +
           std::to_string(rows) + " of dimension " + std::to_string(dim);
  }
  return "";
}

}  // namespace

std::string looks_like(std::span<const std::byte> head, uint64_t file_size) {
  if (head.empty()) return "an empty file";
  for (const Signature& signature : kSignatures) {
    const std::string_view bytes = signature.bytes;
    if (signature.offset + bytes.size() <= head.size() &&
        std::memcmp(head.data() + signature.offset, bytes.data(), bytes.size()) == 0) {
      return signature.meaning;
    }
  }
  if (std::all_of(head.begin(), head.end(), [](std::byte b) { return b == std::byte{0}; })) {
    return "nothing but zeros";
  }
  if (is_safetensors(head)) return "a safetensors file";
  if (is_pickle(head)) return "a Python pickle";
  if (is_text(head)) return "text";
  if (is_faiss(head)) return "a faiss index";
  if (is_hnswlib(head)) return "an hnswlib index";
  for (const std::string& guess : {as_vecs(head, file_size), as_bin(head, file_size)}) {
    if (!guess.empty()) return guess;
  }
  return "data of an unknown kind";
}

}  // namespace bigrain::format
