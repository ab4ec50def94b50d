// SPDX-License-Identifier: Apache-2.0
// The tables that the ISA files define. Internal to simd/ and its tests: everyone else asks
// active_kernels() or kernels_for(), which check first what the machine can run.
#pragma once

#include "simd/kernels.h"

namespace bigrain::simd {

extern const Kernels scalar_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
extern const Kernels avx512vnni_kernels;  // Isa::avx512 too: the same table, a shorter score_codes
#elif defined(__aarch64__)
extern const Kernels neon_kernels;
#endif

}  // namespace bigrain::simd
