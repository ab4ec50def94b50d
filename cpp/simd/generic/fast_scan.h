// SPDX-License-Identifier: Apache-2.0
// Sums of table entries for one block of 32 codes (FastScanFn).
//
// Source: Andre, Kermarrec and Le Scouarnec, "Cache locality is not enough: high-performance
// nearest neighbor search with product quantization fast scan", PVLDB 9(4), 2015, and "Quicker
// ADC", TPAMI 2021: tables of 16 bytes live in a register, and a byte shuffle looks up one 4-bit
// sub-code of 16 vectors at once. What differs: sums are exact for every number of sub-codes and
// never saturate. They are kept in 16 bits for kScanRun sub-codes, then added up in 32.
//
// A vector trait V provides: kScanSubs (sub-codes per step, a divisor of kScanRun), ScanSums (zero
// when value-initialised), scan(sums, lut, codes) for kScanSubs sub-codes, scan_part(sums, lut,
// codes, subs) for fewer, and add_sums(sums, out), which adds the 32 sums to out in order.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bigrain::simd {

inline constexpr size_t kScanVectors = 32, kScanBytes = 16;
// 256 * 255 still fits 16 bits.
inline constexpr size_t kScanRun = 256;
static_assert(kScanRun * 255 <= UINT16_MAX);

template <class V>
void fast_scan(const uint8_t* lut, const uint8_t* codes, size_t subs, uint32_t* out) {
  static_assert(kScanRun % V::kScanSubs == 0);
  for (size_t j = 0; j < kScanVectors; ++j) out[j] = 0;
  for (size_t begin = 0; begin < subs; begin += kScanRun) {
    const size_t end = subs - begin < kScanRun ? subs : begin + kScanRun;
    typename V::ScanSums sums{};
    size_t m = begin;
    for (; m + V::kScanSubs <= end; m += V::kScanSubs)
      V::scan(sums, lut + m * kScanBytes, codes + m * kScanBytes);
    if (m < end) V::scan_part(sums, lut + m * kScanBytes, codes + m * kScanBytes, end - m);
    V::add_sums(sums, out);
  }
}

}  // namespace bigrain::simd
