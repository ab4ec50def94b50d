// SPDX-License-Identifier: Apache-2.0
// Nanoseconds per block of 32 codes of the fast_scan kernels, codes streamed from a level-2 cache:
// g++ -O2 -std=c++20 -Icpp -Icpp/include bench/micro/fast_scan.cpp build/default/cpp/libbigrain.a
//     -o build/fast_scan && build/fast_scan
#include <chrono>
#include <cstdio>
#include <vector>

#include "simd/kernels.h"

int main() {
  using namespace bigrain::simd;
  using Clock = std::chrono::steady_clock;
  constexpr size_t kCodeBytes = size_t{256} << 10, kRounds = 21, kBlockBytes = 16;
  const std::vector<uint8_t> codes(kCodeBytes, 0x5a);
  for (const size_t subs : {24, 96, 192}) {
    const std::vector<uint8_t> lut(subs * kBlockBytes, 200);
    const size_t blocks = kCodeBytes / (subs * kBlockBytes);
    for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512, Isa::neon}) {
      const Kernels* kernels = kernels_for(isa);
      if (kernels == nullptr) continue;
      double best = 1e9;
      for (size_t round = 0; round < kRounds; ++round) {
        uint32_t out[32];
        const Clock::time_point start = Clock::now();
        for (size_t i = 0; i < blocks; ++i)
          kernels->fast_scan(lut.data(), codes.data() + i * subs * kBlockBytes, subs, out);
        const std::chrono::duration<double, std::nano> spent = Clock::now() - start;
        best = std::min(best, spent.count() / static_cast<double>(blocks));
      }
      std::printf("subs %3zu  %-7s %7.1f ns per block\n", subs, kernels->name, best);
    }
  }
}
