// SPDX-License-Identifier: Apache-2.0
#include "index/disk_build/write_index.h"

#include <algorithm>
#include <cstring>

#include "format/file_writer.h"
#include "format/layout.h"
#include "format/nodes.h"
#include "io/atomic_save.h"
#include "io/bucket_file.h"
#include "io/stream.h"
#include "quant/pq_coder.h"

namespace bigrain::disk_build {

namespace {

using format::SectionKind;

constexpr size_t kHomesBuffer = size_t{1} << 16;

format::Header header_of(const IndexMeta& meta, uint64_t trials, uint64_t hot, bool has_ids) {
  format::Header header;
  header.meta = meta;
  header.has_ids = has_ids;
  header.layout = format::compute_layout(meta, {.ids = has_ids, .hot = hot, .trials = trials});
  return header;
}

class IndexWriter {
 public:
  IndexWriter(IndexParts& parts, std::span<const int64_t> ids, RowReader& reader,
              const RowFile& rows, const WorkFolder& work, size_t block_bytes, uint32_t threads,
              Monitor& monitor, format::FileWriter& writer)
      : parts_(parts),
        ids_(ids),
        reader_(reader),
        rows_(rows),
        work_(work),
        block_bytes_(block_bytes),
        threads_(threads),
        monitor_(monitor),
        shape_(format::node_shape(parts.meta, !ids.empty())),
        writer_(writer) {}

  void write(SectionKind kind) {
    switch (kind) {
      case SectionKind::nodes:
        return write_records(kind, shape_.nodes, &format::pack_nodes);
      case SectionKind::fulls:
        return write_records(kind, shape_.fulls, &format::pack_fulls);
      case SectionKind::codes:
        return write_codes();
      case SectionKind::mean:
        return append(kind, parts_.mean);
      case SectionKind::signs:
        return append(kind, parts_.signs);
      case SectionKind::scales:
        return append(kind, parts_.scales);
      case SectionKind::projection:
        return append(kind, parts_.projection);
      case SectionKind::trials:
        return writer_.append(kind, std::as_bytes(std::span(parts_.trials)));
      case SectionKind::pq_rotation:
        return append(kind, parts_.pq_rotation);
      case SectionKind::pq_codebooks:
        return append(kind, parts_.pq_codebooks);
      case SectionKind::pq_codes:
        return write_pq_codes();
      case SectionKind::hot:
        return append(kind, parts_.hot);
      default:  // sums write themselves; others are in no such file
        return;
    }
  }

 private:
  using Pack = void (*)(const format::NodeShape&, const IndexParts&, uint64_t,
                        std::span<std::byte>);

  void append(SectionKind kind, const Buffer& bytes) {
    writer_.append(kind, {bytes.data(), bytes.size()});
  }

  // A block at a time, as if it were the whole: packing begins with its first record.
  void write_records(SectionKind kind, const format::RecordShape& records, Pack pack) {
    const uint64_t pages = std::max<uint64_t>(block_bytes_ / format::kPageBytes, 1);
    const uint64_t step = std::max<uint64_t>(pages / records.pages_each, 1) * records.per_page;
    IndexParts block;
    Buffer out;
    for (uint64_t first = 0; first < records.count; first += step) {
      const uint64_t count = std::min(step, records.count - first);
      format::NodeShape here = shape_;
      here.nodes.count = here.fulls.count = count;
      load(kind, first, count, block);
      const format::RecordShape& shape = kind == SectionKind::nodes ? here.nodes : here.fulls;
      const size_t bytes = shape.pages() * format::kPageBytes;
      if (out.size() < bytes) out = Buffer(bytes);
      pack(here, block, 0, {out.data(), bytes});
      writer_.append(kind, {out.data(), bytes});
    }
  }

  void load(SectionKind kind, uint64_t first, uint64_t count, IndexParts& block) {
    if (kind == SectionKind::nodes) {
      resize(block.graph, count * shape_.row_bytes);
      rows_.read_block(first, count, block.graph.as<uint32_t>().data());
      if (!ids_.empty()) {
        resize(block.ids, count * sizeof(int64_t));
        std::memcpy(block.ids.data(), &ids_[first], count * sizeof(int64_t));
      }
    }
    if (kind == SectionKind::fulls || shape_.coupled) {
      resize(block.vectors, count * shape_.vector_bytes);
      reader_.read(first, count, block.vectors.data());
    }
  }

  static void resize(Buffer& buffer, size_t bytes) {
    if (buffer.size() < bytes) buffer = Buffer(bytes);
  }

  void write_pq_codes() {
    const quant::PqCoder coder(parts_);
    const size_t step = std::max<size_t>(block_bytes_ / reader_.row_bytes(), 1);
    std::vector<std::byte> codes;
    parts_.vectors = Buffer(step * reader_.row_bytes());
    for (uint64_t first = 0; first < parts_.meta.count; first += step) {
      const size_t count = std::min<uint64_t>(step, parts_.meta.count - first);
      reader_.read(first, count, parts_.vectors.data());
      codes.resize(count * parts_.meta.pq_bytes);
      coder.encode(0, codes, threads_, monitor_);
      writer_.append(SectionKind::pq_codes, codes);
    }
    parts_.vectors = {};
  }

  void write_codes() {
    if (work_.done("homes")) return merge_codes();
    const io::File file = work_.open("records");
    const uint64_t size = parts_.meta.count * code_stride(parts_.meta.code_dim);
    io::ReadStream stream(file, 0, size, std::min<uint64_t>(block_bytes_, size));
    Buffer block(std::min<uint64_t>(block_bytes_, size));
    for (uint64_t done = 0; done < size; done += block.size()) {
      const size_t bytes = std::min<uint64_t>(block.size(), size - done);
      stream.read(block.data(), bytes);
      writer_.append(SectionKind::codes, {block.data(), bytes});
    }
  }

  // Every home has its codes in the order of the vectors.
  void merge_codes() {
    const size_t stride = code_stride(parts_.meta.code_dim);
    const io::BucketReader codes(work_.open("codes"));
    const io::File file = work_.open("homes");
    io::ReadStream homes(file, 0, parts_.meta.count * sizeof(uint16_t), kHomesBuffer);
    const io::BucketShape& shape = codes.shape();
    Buffer extents(shape.buckets * shape.extent_bytes());
    std::vector<uint64_t> next(shape.buckets);
    const size_t step = std::max<size_t>(block_bytes_ / stride, 1);
    std::vector<std::byte> block;
    for (uint64_t first = 0; first < parts_.meta.count; first += step) {
      block.clear();
      for (uint64_t i = first; i < std::min<uint64_t>(first + step, parts_.meta.count); ++i) {
        uint16_t home = 0;
        homes.read(&home, sizeof home);
        if (home >= shape.buckets || next[home] >= codes.count(home)) {
          throw Error::corrupt("'" + file.path() + "' is damaged; begin anew with clean");
        }
        std::byte* const extent = extents.data() + home * shape.extent_bytes();
        const size_t at = next[home] % shape.extent_records;
        if (at == 0) codes.read_extent(home, next[home] / shape.extent_records, extent);
        ++next[home];
        block.insert(block.end(), extent + at * stride, extent + (at + 1) * stride);
      }
      writer_.append(SectionKind::codes, block);
    }
  }

  IndexParts& parts_;
  std::span<const int64_t> ids_;
  RowReader& reader_;
  const RowFile& rows_;
  const WorkFolder& work_;
  size_t block_bytes_;
  uint32_t threads_;
  Monitor& monitor_;
  format::NodeShape shape_;
  format::FileWriter& writer_;
};

}  // namespace

uint64_t write_index(io::FileSystem& files, const std::string& path, IndexParts& parts,
                     std::span<const int64_t> ids, RowReader& reader, const RowFile& rows,
                     const WorkFolder& work, size_t block_bytes, uint32_t threads,
                     Monitor& monitor) {
  format::check_ranges(parts.meta);
  const format::Header header =
      header_of(parts.meta, parts.trials.size(), parts.hot.size() / sizeof(uint32_t), !ids.empty());
  io::atomic_save(files, path, [&](io::File& file) {
    const format::Sink sink = [&file](uint64_t offset, const void* from, size_t bytes) {
      file.write(offset, from, bytes);
    };
    monitor.start(header.layout.payload);
    format::FileWriter writer(header, sink, monitor);
    IndexWriter source(parts, ids, reader, rows, work, block_bytes, threads, monitor, writer);
    for (const format::Section& section : header.layout.sections) source.write(section.kind);
    writer.finish();
  });
  return header.layout.file_length;
}

uint64_t index_bytes(const IndexMeta& meta, uint64_t trials, uint64_t hot, bool has_ids) {
  return header_of(meta, trials, hot, has_ids).layout.file_length;
}

}  // namespace bigrain::disk_build
