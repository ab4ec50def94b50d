// SPDX-License-Identifier: Apache-2.0
// Which tables this machine can run. A processor that has the registers is not enough: the
// operating system must save them too (XGETBV), or their upper halves are lost at a task switch.
#include <cstdlib>
#include <string>

#include "bigrain/error.h"
#include "simd/kernels.h"
#include "simd/tables.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace bigrain::simd {
namespace {

constexpr Isa kAllIsas[] = {Isa::scalar, Isa::avx2, Isa::avx512, Isa::neon};

#if defined(__x86_64__)

// Bits as in the Intel SDM volume 2A, CPUID, and volume 1, 13.2 (XCR0).
struct X86Features {
  bool avx2 = false, avx512 = false, avx512vnni = false;
};

uint64_t saved_state() {
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

X86Features detect() {
  constexpr uint32_t kFma = 1u << 12, kOsxsave = 1u << 27, kF16c = 1u << 29;  // leaf 1, ecx
  constexpr uint32_t kLeaf1 = kFma | kOsxsave | kF16c;
  constexpr uint32_t kAvx2 = 1u << 5;                                      // leaf 7, ebx
  constexpr uint32_t kAvx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  // F, DQ, BW, VL
  constexpr uint32_t kVnni = 1u << 11;                                     // leaf 7, ecx
  constexpr uint64_t kYmm = 0x6, kZmm = 0xe6;                              // XCR0

  X86Features features;
  uint32_t eax, ebx, ecx, edx;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || (ecx & kLeaf1) != kLeaf1) return features;
  const uint64_t saved = saved_state();
  if ((saved & kYmm) != kYmm || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return features;
  features.avx2 = (ebx & kAvx2) != 0;
  features.avx512 = features.avx2 && (saved & kZmm) == kZmm && (ebx & kAvx512) == kAvx512;
  features.avx512vnni = features.avx512 && (ecx & kVnni) != 0;
  return features;
}

const Kernels* table(Isa isa) {
  static const X86Features features = detect();
  if (isa == Isa::scalar) return &scalar_kernels;
  if (isa == Isa::avx2 && features.avx2) return &avx2_kernels;
  if (isa == Isa::avx512 && features.avx512vnni) return &avx512vnni_kernels;
  if (isa == Isa::avx512 && features.avx512) return &avx512_kernels;
  return nullptr;
}

#elif defined(__aarch64__)

bool has_dot_product() {
#if defined(__linux__)
  constexpr unsigned long kAsimdDp = 1ul << 20;  // HWCAP_ASIMDDP of the kernel's hwcap.h
  return (getauxval(AT_HWCAP) & kAsimdDp) != 0;
#elif defined(__APPLE__)
  return true;  // every Apple M processor
#else
  return false;
#endif
}

const Kernels* table(Isa isa) {
  static const bool dot_product = has_dot_product();
  if (isa == Isa::scalar) return &scalar_kernels;
  if (isa == Isa::neon && dot_product) return &neon_kernels;
  return nullptr;
}

#else

const Kernels* table(Isa isa) { return isa == Isa::scalar ? &scalar_kernels : nullptr; }

#endif

const Kernels* best() {
  const Kernels* best = nullptr;
  for (const Isa isa : kAllIsas)
    if (const Kernels* candidate = table(isa)) best = candidate;
  return best;
}

const Kernels* choose() {
  const char* wanted = std::getenv("BIGRAIN_SIMD");
  if (wanted == nullptr || *wanted == '\0') return best();
  std::string supported;
  for (const Isa isa : kAllIsas) {
    const Kernels* kernels = table(isa);
    if (kernels == nullptr) continue;
    if (std::string(wanted) == kernels->name) return kernels;
    supported += supported.empty() ? kernels->name : std::string(", ") + kernels->name;
  }
  throw Error::invalid("environment variable BIGRAIN_SIMD is '" + std::string(wanted) +
                       "', which this machine does not support; use one of: " + supported);
}

}  // namespace

const Kernels& active_kernels() {
  static const Kernels* const kernels = choose();
  return *kernels;
}

const Kernels* kernels_for(Isa isa) { return table(isa); }

}  // namespace bigrain::simd
