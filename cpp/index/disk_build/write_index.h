// SPDX-License-Identifier: Apache-2.0
// The last step: rows, vectors and codes, each in the order of the vectors, become an index file.
#pragma once

#include <span>
#include <string>

#include "format/parts.h"
#include "index/disk_build/row_file.h"
#include "index/disk_build/row_reader.h"
#include "index/disk_build/work_folder.h"
#include "util/monitor.h"

namespace bigrain::disk_build {

// Codes are in "records", or by home in "codes". `parts` hold what is small; meta is complete.
// parts.vectors serve as a buffer.
// `ids` may be empty. Returns the bytes written.
uint64_t write_index(io::FileSystem& files, const std::string& path, IndexParts& parts,
                     std::span<const int64_t> ids, RowReader& reader, const RowFile& rows,
                     const WorkFolder& work, size_t block_bytes, uint32_t threads,
                     Monitor& monitor);

// What that file will take.
uint64_t index_bytes(const IndexMeta& meta, uint64_t trials, uint64_t hot, bool has_ids);

}  // namespace bigrain::disk_build
