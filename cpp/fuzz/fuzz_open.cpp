// SPDX-License-Identifier: Apache-2.0
// Opens bytes as an index file in every mode and searches what opens, under sanitizers. Half of the
// changes that libFuzzer makes are followed by the right checksums, so that they get past them.
//
// Whatever the bytes are: an answer whose ids are points or -1, or an Error of a kind that callers
// expect. `make fuzz` runs it (docs/format.md, "Reading").
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "bigrain/index.h"
#include "format_fixture.h"
#include "index/residency.h"
#include "util/monitor.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace bigrain {
namespace {

constexpr uint32_t kK = 5, kWidth = 12;
constexpr size_t kQueries = 4;
constexpr uint32_t kMostDim = 4'096;  // of forged headers: a query must be made for it

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "fuzz_open: %s\n", what);
  std::abort();
}

// A file without a disk.
class MemoryFile {
 public:
  MemoryFile() : fd_(memfd_create("bigrain-fuzz", 0)) {
    if (fd_ < 0) die("memfd_create failed");
  }
  void hold(const uint8_t* data, size_t size) const {
    if (ftruncate(fd_, 0) != 0) die("ftruncate failed");
    if (pwrite(fd_, data, size, 0) != static_cast<ssize_t>(size)) die("pwrite failed");
  }
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

void check_answers(const Index& index, const std::vector<int64_t>& ids,
                   const std::vector<float>& distances) {
  const IndexParts& parts = index.parts();
  const bool named = index.residency().mode != SearchMode::memory || parts.ids.size() != 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (std::isnan(distances[i])) die("a distance is NaN");
    if (!named && ids[i] >= static_cast<int64_t>(parts.meta.count)) die("an id is no point");
    if (!named && ids[i] < -1) die("an id is negative");
  }
}

void search(const Index& index) {
  const IndexMeta& meta = index.parts().meta;
  if (meta.dim > kMostDim) return;
  const Dtype dtype = meta.dtype == Dtype::f16 ? Dtype::f32 : meta.dtype;
  std::vector<std::byte> queries(kQueries * meta.dim * item_size(dtype));
  fixture::Random random(1);
  if (dtype == Dtype::f32) {
    for (size_t i = 0; i < kQueries * meta.dim; ++i) {
      const float value = static_cast<float>(random() % 2'001) / 1'000.0f - 1.0f;
      std::memcpy(&queries[i * sizeof value], &value, sizeof value);
    }
  } else {
    for (std::byte& value : queries) value = static_cast<std::byte>(random());
  }
  std::vector<int64_t> ids(kQueries * kK);
  std::vector<float> distances(kQueries * kK);
  Monitor monitor;
  index.search({queries.data(), kQueries, meta.dim, dtype},
               {.k = kK, .width = kWidth, .threads = 1, .deterministic = true},
               {ids.data(), distances.data(), nullptr}, monitor);
  check_answers(index, ids, distances);
}

void open_and_search(const std::string& path, const OpenParams& params) {
  try {
    Monitor monitor;
    search(Index::open(path, params, monitor));
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::cancelled) die("cancelled by nobody");
    if (error.kind() == ErrorKind::io) die(error.what());
  }
}

}  // namespace
}  // namespace bigrain

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bigrain;
  static const MemoryFile file;
  file.hold(data, size);
  const std::string io = "simulated:latency_us=0,reorder=1";
  for (const Verify verify : {Verify::full, Verify::off}) {
    open_and_search(file.path(), {.verify = verify});
    for (const uint64_t memory : {kLeastMemory, uint64_t{size} * 2 / 3}) {
      open_and_search(file.path(), {.verify = verify, .memory = memory, .io = io});
    }
  }
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  using namespace bigrain;
  size = LLVMFuzzerMutate(data, size, max_size);
  if (seed % 2 == 0 || size < format::kHeaderBytes) return size;
  fixture::Bytes bytes(reinterpret_cast<std::byte*>(data),
                       reinterpret_cast<std::byte*>(data) + size);
  format::RawHeader raw = fixture::header_of(bytes);
  if (seed % 4 == 1) raw.file_length = size;
  raw.section_count = std::min(raw.section_count, format::kMaxSections);
  for (uint32_t i = 0; i < raw.section_count; ++i) {
    const format::RawSection& section = raw.sections[i];
    // Checksums of sections that lie on the header would change it.
    if (section.offset < format::kHeaderBytes || section.offset > size ||
        section.length > size - section.offset) {
      fixture::put_header(bytes, raw);
      std::memcpy(data, bytes.data(), size);
      return size;
    }
  }
  fixture::put_header(bytes, raw);
  // As many pages as the sections have bytes for, and sums for them all.
  uint64_t pages = 0;
  for (const auto kind : {format::SectionKind::nodes, format::SectionKind::fulls}) {
    const format::RawSection section = fixture::section_of(bytes, kind);
    if (section.count > section.length / format::kPageBytes) pages = size;
    pages += section.count;
  }
  const format::RawSection sums = fixture::section_of(bytes, format::SectionKind::sums);
  if (pages <= sums.length / sizeof(uint32_t)) fixture::reseal(bytes);
  std::memcpy(data, bytes.data(), size);
  return size;
}
