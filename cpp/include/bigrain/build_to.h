// SPDX-License-Identifier: Apache-2.0
// Builds an index file from vectors that lie in a file, in as little memory as is allowed.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "bigrain/error.h"
#include "bigrain/params.h"
#include "bigrain/types.h"

namespace bigrain {

class Monitor;
namespace io {
class FileSystem;
}

// `rows` vectors of a file: row i begins at byte offset + i * row_stride.
struct VectorFile {
  std::string path;
  uint64_t offset = 0;
  uint64_t row_stride = 0;  // at least dim * item_size(dtype)
  uint64_t rows = 0;
  uint32_t dim = 0;
  Dtype dtype = Dtype::f32;
};

struct DiskBuildParams {
  // Bytes that the build may hold, what it reads and writes through included; the process's own
  // code and threads are not.
  // 0: as little as these vectors need.
  uint64_t memory = 0;
  std::string work;    // a folder for what does not fit; its parent must exist
  bool clean = false;  // begin anew, whatever an interrupted build has left there
};

// Least `memory` for those vectors.
uint64_t least_build_memory(const VectorFile& vectors, const BuildParams& params);

// Writes the index to `path`, atomically, and removes the work folder. Returns the bytes written.
// `ids`: one per row, distinct and non-negative, or empty for 0..n-1. The same bytes for every
// number of threads and instruction set; other bytes for other values of `memory`.
//
// A build that was interrupted, by a signal, by the monitor or by a full disk, leaves the work
// folder; the same call goes on where it stopped. Throws Error(invalid_argument) where the folder
// belongs to a build of other vectors or parameters, Error(io, ENOSPC) before anything large is
// written where the disk has too little room.
uint64_t build_to(io::FileSystem& files, const std::string& path, const VectorFile& vectors,
                  std::span<const int64_t> ids, const BuildParams& params,
                  const DiskBuildParams& disk, Monitor& monitor);

}  // namespace bigrain
