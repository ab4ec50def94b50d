// SPDX-License-Identifier: Apache-2.0
// Readers of one file that are kept between uses: making a ring and registering its memory takes
// longer than a search.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "io/block_file.h"
#include "io/block_reader.h"

namespace bigrain::io {

// Safe for use by several threads. Dies after everything that was lent.
class ReaderPool {
 public:
  explicit ReaderPool(BlockFile file) : file_(std::move(file)) {}

  const BlockFile& file() const { return file_; }

  // A reader of at least that depth and memory, which goes back by itself.
  class Loan {
   public:
    Loan(ReaderPool& pool, std::unique_ptr<BlockReader> reader)
        : pool_(&pool), reader_(std::move(reader)) {}
    Loan(Loan&&) = default;
    Loan& operator=(Loan&&) = delete;
    ~Loan() {
      if (reader_) pool_->put(std::move(reader_));
    }
    BlockReader& operator*() const { return *reader_; }
    BlockReader* operator->() const { return reader_.get(); }

   private:
    ReaderPool* pool_;
    std::unique_ptr<BlockReader> reader_;
  };
  Loan borrow(size_t depth, size_t arena_bytes);

 private:
  void put(std::unique_ptr<BlockReader> reader) noexcept;

  BlockFile file_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<BlockReader>> idle_;
};

}  // namespace bigrain::io
