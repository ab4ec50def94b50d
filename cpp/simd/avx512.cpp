// SPDX-License-Identifier: Apache-2.0
// AVX-512 without VNNI: Skylake-SP.
#include "simd/avx512.h"

#include "simd/tables.h"

namespace bigrain::simd {

constinit const Kernels avx512_kernels = table_of<Avx512>(Isa::avx512, "avx512");

}  // namespace bigrain::simd
