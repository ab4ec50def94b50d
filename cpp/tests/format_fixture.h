// SPDX-License-Identifier: Apache-2.0
// Small indexes with random but valid content, and ways to damage the files made from them.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "bigrain/error.h"
#include "format/header.h"
#include "format/index_file.h"
#include "format/layout.h"
#include "format/nodes.h"
#include "format/parts.h"
#include "util/crc32c.h"

namespace bigrain::fixture {

using Bytes = std::vector<std::byte>;
using Random = std::mt19937_64;

struct Shape {
  Metric metric = Metric::l2;
  Dtype dtype = Dtype::f32;
  uint32_t dim = 16;
  uint64_t count = 2'000;
  uint32_t degree = 16;
  bool ids = true;
  uint32_t tune_points = 5;
  uint32_t code_dim = 0;  // 0: dim; less: projected codes, and trials
  uint32_t pq_bytes = 0, pq_dim = 0;
  uint32_t hot = 0;
  bool pq_given = false;
  bool slack = false;

  uint32_t dim_of_codes() const { return code_dim == 0 ? dim : code_dim; }
};

inline uint64_t below(Random& random, uint64_t bound) { return random() % bound; }

inline Buffer random_graph(const Shape& shape, Random& random) {
  Buffer graph(shape.count * shape.degree * sizeof(uint32_t));
  const auto slots = graph.as<uint32_t>();
  for (uint64_t i = 0; i < shape.count; ++i) {
    const auto row = slots.subspan(i * shape.degree, shape.degree);
    const uint64_t wanted = below(random, shape.degree + 1);
    size_t used = 0;
    for (uint64_t attempt = 0; attempt < wanted; ++attempt) {
      const auto id = static_cast<uint32_t>(below(random, shape.count));
      const auto end = row.begin() + used;
      if (id != i && std::find(row.begin(), end, id) == end) row[used++] = id;
    }
    std::fill(row.begin() + used, row.end(), static_cast<uint32_t>(i));
  }
  return graph;
}

inline Buffer random_records(uint64_t count, uint32_t dim, Random& random) {
  const size_t stride = code_stride(dim);
  Buffer codes(count * stride);
  for (uint64_t i = 0; i < count; ++i) {
    std::byte* record = codes.data() + i * stride;
    for (uint32_t j = 0; j < dim; ++j) {
      record[j] = static_cast<std::byte>(static_cast<int>(below(random, 255)) - 127);
    }
    const float constants[] = {0.01f + static_cast<float>(below(random, 100)) / 256.0f,
                               static_cast<float>(below(random, 1'000)) / 16.0f};
    std::memcpy(record + stride - sizeof constants, constants, sizeof constants);
  }
  return codes;
}

inline Buffer random_vectors(const Shape& shape, Random& random) {
  Buffer vectors(shape.count * shape.dim * item_size(shape.dtype));
  if (shape.dtype == Dtype::f32) {
    for (float& value : vectors.as<float>()) {
      value = static_cast<float>(below(random, 2'001)) / 1'000.0f - 1.0f;
    }
  } else if (shape.dtype == Dtype::f16) {
    // Any bits but those of infinities and NaNs.
    for (uint16_t& bits : vectors.as<uint16_t>()) {
      bits = static_cast<uint16_t>(random() & 0xBBFF);
    }
  } else {
    for (uint8_t& value : vectors.as<uint8_t>()) value = static_cast<uint8_t>(random());
  }
  return vectors;
}

inline Buffer random_signs(uint32_t dimension, Random& random) {
  Buffer signs(format::signs_bytes(dimension));
  const size_t per_round = signs.size() / kRotationRounds;
  for (size_t i = 0; i < signs.size(); ++i) {
    const bool last = i % per_round == per_round - 1 && dimension % 8 != 0;
    signs.data()[i] =
        static_cast<std::byte>(random() & (last ? (1u << (dimension % 8)) - 1u : 255u));
  }
  return signs;
}

inline void fill_projection(IndexParts& parts, Random& random) {
  parts.scales = Buffer(parts.meta.dim * sizeof(float));
  for (float& scale : parts.scales.as<float>()) {
    scale = 0.25f + static_cast<float>(below(random, 8));
  }
  parts.projection = random_records(parts.meta.code_dim, parts.meta.dim, random);
  parts.trials = {{parts.meta.code_dim, 20.0f, 100.0f}, {parts.meta.dim, 10.0f, 200.0f}};
}

inline void fill_pq(const Shape& shape, IndexParts& parts, Random& random) {
  parts.meta.pq_bytes = shape.pq_bytes;
  parts.meta.pq_dim = shape.pq_dim;
  parts.meta.pq_given = shape.pq_given;
  parts.pq_rotation = Buffer(size_t{shape.dim} * shape.pq_dim * sizeof(float));
  parts.pq_codebooks = Buffer(size_t{kPqCentroids} * shape.pq_dim * sizeof(float));
  parts.pq_codes = Buffer(shape.count * shape.pq_bytes);
  for (Buffer* floats : {&parts.pq_rotation, &parts.pq_codebooks}) {
    for (float& value : floats->as<float>())
      value = static_cast<float>(below(random, 9)) / 8 - 0.5f;
  }
  for (uint8_t& code : parts.pq_codes.as<uint8_t>()) code = static_cast<uint8_t>(random());
}

inline IndexParts random_parts(const Shape& shape, uint64_t seed = 1) {
  Random random(seed);
  IndexParts parts;
  parts.meta = {.metric = shape.metric,
                .dtype = shape.dtype,
                .dim = shape.dim,
                .code_dim = shape.dim_of_codes(),
                .count = shape.count,
                .degree = shape.degree,
                .entry = shape.count == 0 ? 0 : static_cast<uint32_t>(shape.count / 2),
                .build_width = 96,
                .alpha = 1.2f,
                .seed = 42};
  parts.mean = Buffer(shape.dim * sizeof(float));
  for (float& value : parts.mean.as<float>()) value = static_cast<float>(below(random, 7)) / 8.0f;
  if (parts.is_projected()) {
    fill_projection(parts, random);
  } else {
    parts.signs = random_signs(shape.dim, random);
  }
  for (uint32_t i = 0; i < shape.tune_points; ++i) {
    parts.tuning.push_back(
        {.k = 1 + i / 2 * 9, .width = 16u << i, .recall = 0.125f * static_cast<float>(i % 8)});
    if (shape.slack && i % 2 == 1) parts.tuning.back().slack = 0.03f * static_cast<float>(i);
  }
  if (shape.pq_bytes != 0) fill_pq(shape, parts, random);
  parts.hot = Buffer(shape.hot * sizeof(uint32_t));
  for (uint32_t i = 0; i < shape.hot; ++i) parts.hot.as<uint32_t>()[i] = shape.hot - 1 - i;
  if (shape.count == 0) return parts;
  parts.graph = random_graph(shape, random);
  parts.codes = random_records(shape.count, shape.dim_of_codes(), random);
  parts.vectors = random_vectors(shape, random);
  if (shape.ids) {
    parts.ids = Buffer(shape.count * sizeof(int64_t));
    for (uint64_t i = 0; i < shape.count; ++i) {
      // Distinct, since 7 and any count below it times 7 have no wrap, and not ascending.
      parts.ids.as<int64_t>()[i] = static_cast<int64_t>((shape.count - i) * 7);
    }
  }
  return parts;
}

// One shape of every kind: metrics and element types, every d, optional parts, tiny sizes.
inline std::vector<Shape> corpus(uint64_t count) {
  constexpr uint32_t kDims[] = {1, 3, 16, 100, 128};
  std::vector<Shape> shapes;
  for (uint32_t metric = 0; metric < kMetricCount; ++metric) {
    for (uint32_t dtype = 0; dtype < kDtypeCount; ++dtype) {
      shapes.push_back({.metric = static_cast<Metric>(metric),
                        .dtype = static_cast<Dtype>(dtype),
                        .dim = kDims[shapes.size() % std::size(kDims)],
                        .count = count,
                        .ids = shapes.size() % 2 == 0,
                        .tune_points = shapes.size() % 3 == 0 ? 0u : 6u});
    }
  }
  shapes.push_back({.count = 0, .ids = false});
  shapes.push_back({.count = 0, .ids = false, .tune_points = 0});
  shapes.push_back({.metric = Metric::ip, .count = 1});
  shapes.push_back({.dim = 8, .count = 2, .degree = 2, .ids = false});
  shapes.push_back({.dim = 150, .count = count, .code_dim = 56});
  shapes.push_back({.metric = Metric::cosine, .dtype = Dtype::f16, .dim = 7, .code_dim = 1});
  shapes.push_back({.dim = 24, .count = count, .pq_bytes = 5, .pq_dim = 16, .hot = 20});
  shapes.push_back({.dim = 24, .count = count, .pq_bytes = 5, .pq_dim = 16, .pq_given = true});
  shapes.push_back({.dim = 9, .count = count, .slack = true});
  shapes.push_back(
      {.dim = 24, .count = 20, .pq_bytes = 5, .pq_dim = 16, .pq_given = true, .slack = true});
  shapes.push_back(
      {.dim = 1'100, .count = 30, .degree = 4, .code_dim = 56, .pq_bytes = 8, .pq_dim = 8});
  shapes.push_back({.dim = 1'024, .count = 30, .degree = 4, .ids = false, .code_dim = 56});
  shapes.push_back(
      {.dim = 1'024, .count = 30, .degree = 4, .code_dim = 56, .pq_bytes = 3, .pq_dim = 3});
  return shapes;
}

inline bool same_bytes(const Buffer& a, const Buffer& b) {
  return a.size() == b.size() && (a.size() == 0 || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

inline bool same_arrays(const IndexParts& a, const IndexParts& b) {
  const size_t curve = a.tuning.size() * sizeof(TunePoint);
  return same_bytes(a.graph, b.graph) && same_bytes(a.codes, b.codes) &&
         same_bytes(a.vectors, b.vectors) && same_bytes(a.ids, b.ids) &&
         same_bytes(a.mean, b.mean) && same_bytes(a.signs, b.signs) &&
         same_bytes(a.scales, b.scales) && same_bytes(a.projection, b.projection) &&
         same_bytes(a.pq_rotation, b.pq_rotation) && same_bytes(a.pq_codebooks, b.pq_codebooks) &&
         (!a.meta.pq_given || same_bytes(a.pq_codes, b.pq_codes)) && same_bytes(a.hot, b.hot) &&
         a.trials.size() == b.trials.size() && a.tuning.size() == b.tuning.size() &&
         (curve == 0 || std::memcmp(a.tuning.data(), b.tuning.data(), curve) == 0);
}

inline bool same_meta(const IndexMeta& a, const IndexMeta& b) {
  return a.metric == b.metric && a.dtype == b.dtype && a.dim == b.dim && a.code_dim == b.code_dim &&
         a.count == b.count && a.degree == b.degree && a.entry == b.entry &&
         a.build_width == b.build_width && a.alpha == b.alpha && a.seed == b.seed &&
         a.pq_bytes == b.pq_bytes && a.pq_dim == b.pq_dim && a.pq_given == b.pq_given;
}

inline format::RawHeader header_of(const Bytes& bytes) {
  format::RawHeader raw;
  std::memcpy(&raw, bytes.data(), sizeof raw);
  return raw;
}

// Puts a header into the file with a checksum that is right.
inline void put_header(Bytes& bytes, format::RawHeader raw) {
  raw.crc = 0;
  raw.crc = crc32c(&raw, sizeof raw);
  std::memcpy(bytes.data(), &raw, sizeof raw);
}

inline format::RawSection section_of(const Bytes& bytes, format::SectionKind kind) {
  const format::RawHeader raw = header_of(bytes);
  for (uint32_t i = 0; i < raw.section_count; ++i) {
    if (raw.sections[i].kind == static_cast<uint32_t>(kind)) return raw.sections[i];
  }
  return {};
}

// Makes every checksum right again, as an attacker would.
inline void reseal(Bytes& bytes) {
  uint64_t number = 0;
  const format::RawSection sums = section_of(bytes, format::SectionKind::sums);
  for (const auto kind : {format::SectionKind::nodes, format::SectionKind::fulls}) {
    const format::RawSection pages = section_of(bytes, kind);
    for (uint64_t page = 0; page < pages.count; ++page, ++number) {
      const uint32_t sum =
          format::page_sum(bytes.data() + pages.offset + page * format::kPageBytes, number);
      std::memcpy(bytes.data() + sums.offset + number * sizeof sum, &sum, sizeof sum);
    }
  }
  format::RawHeader raw = header_of(bytes);
  for (uint32_t i = 0; i < raw.section_count; ++i) {
    raw.sections[i].crc = crc32c(bytes.data() + raw.sections[i].offset, raw.sections[i].length);
  }
  put_header(bytes, raw);
}

// "" if the bytes parse, else the message of the Error(corrupt). Anything else escapes.
inline std::string complaint(std::span<const std::byte> bytes, Verify verify = Verify::full) {
  Monitor monitor;
  try {
    format::parse(bytes, verify, monitor);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::corrupt) throw;
    return error.what();
  }
  return "";
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// A directory that goes away with the object.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "bigrain-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = pattern;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline void write_file(const std::string& path, std::span<const std::byte> bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
}

inline Bytes read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const auto span = std::as_bytes(std::span(text));
  return Bytes(span.begin(), span.end());
}

}  // namespace bigrain::fixture
