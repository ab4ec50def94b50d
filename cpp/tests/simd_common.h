// SPDX-License-Identifier: Apache-2.0
// What the tests of the kernels share: every table that runs here, and memory that faults where a
// kernel reads past its operands.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <vector>

#include "simd/kernels.h"
#include "simd/tables.h"

namespace bigrain::simd {

struct NamedTable {
  std::string name;
  const Kernels* kernels;
};

// The scalar table comes first. AVX-512 appears twice where the machine has VNNI.
inline std::vector<NamedTable> tables_here() {
  std::vector<NamedTable> tables;
  for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512, Isa::neon})
    if (const Kernels* kernels = kernels_for(isa)) tables.push_back({kernels->name, kernels});
#if defined(__x86_64__)
  if (kernels_for(Isa::avx512) == &avx512vnni_kernels)
    tables.push_back({"avx512 without VNNI", &avx512_kernels});
#endif
  return tables;
}

// `size` writable bytes between two pages that fault on any access.
class GuardedBuffer {
 public:
  explicit GuardedBuffer(size_t size) : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    size_ = (size + page_ - 1) / page_ * page_;
    void* base = mmap(nullptr, size_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) throw std::bad_alloc();
    base_ = static_cast<std::byte*>(base);
    if (mprotect(first(), size_, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
  }
  ~GuardedBuffer() { munmap(base_, size_ + 2 * page_); }
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  std::byte* first() { return base_ + page_; }                       // a fault lies just below
  std::byte* last(size_t bytes) { return first() + size_ - bytes; }  // and just above these

 private:
  size_t page_, size_;
  std::byte* base_;
};

inline uint32_t bits_of(float value) { return std::bit_cast<uint32_t>(value); }

}  // namespace bigrain::simd
