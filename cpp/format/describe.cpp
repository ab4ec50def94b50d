// SPDX-License-Identifier: Apache-2.0
#include <charconv>
#include <string>

#include "format/header.h"
#include "format/index_file.h"

namespace bigrain::format {

namespace {

// One JSON object, member by member; no string in a header needs escaping.
class JsonObject {
 public:
  void raw(const char* name, const std::string& value) {
    text_ += (text_.empty() ? "{\"" : ", \"") + std::string(name) + "\": " + value;
  }
  void text(const char* name, const std::string& value) { raw(name, "\"" + value + "\""); }
  void number(const char* name, uint64_t value) { raw(name, std::to_string(value)); }
  std::string done() const { return text_ + "}"; }

 private:
  std::string text_;
};

// std::to_chars knows no locale: a decimal comma would not be JSON.
template <class... Format>
std::string digits_of(Format... format) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, format...).ptr;
  return std::string(text, end);
}

std::string hexadecimal(uint32_t value) {
  const std::string digits = digits_of(value, 16);
  return std::string(8 - digits.size(), '0') + digits;
}

std::string describe_section(const Section& section, uint32_t crc) {
  JsonObject object;
  object.text("name", name_of(section.kind));
  object.number("offset", section.offset);
  object.number("length", section.length);
  object.number("count", section.count);
  object.number("element_size", section.element_size);
  object.text("crc32c", hexadecimal(crc));
  return object.done();
}

}  // namespace

std::string describe(io::FileSystem& files, const std::string& path) {
  const Header header = read_header(files, path);
  const IndexMeta& meta = header.meta;
  std::string sections;
  for (size_t i = 0; i < header.layout.sections.size(); ++i) {
    sections +=
        (i == 0 ? "" : ", ") + describe_section(header.layout.sections[i], header.section_crcs[i]);
  }
  JsonObject object;
  object.text("format", std::to_string(header.major) + "." + std::to_string(header.minor));
  object.number("file_length", header.layout.file_length);
  object.number("points", meta.count);
  object.number("dim", meta.dim);
  object.text("dtype", name_of(meta.dtype));
  object.text("metric", name_of(meta.metric));
  object.number("degree", meta.degree);
  object.number("entry", meta.entry);
  object.number("code_dim", meta.code_dim);
  object.number("code_stride", code_stride(meta.code_dim));
  object.number("pq_bytes", meta.pq_bytes);
  object.number("pq_dim", meta.pq_dim);
  object.raw("pq_given", meta.pq_given ? "true" : "false");
  object.number("build_width", meta.build_width);
  object.raw("alpha", digits_of(meta.alpha));
  object.number("seed", meta.seed);
  object.raw("sections", "[" + sections + "]");
  return object.done();
}

}  // namespace bigrain::format
