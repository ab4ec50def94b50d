// SPDX-License-Identifier: Apache-2.0
// AVX-512 with VNNI: Cascade Lake, Ice Lake, Zen 4 and later.
#include "simd/avx512.h"

#include "simd/tables.h"

#ifndef __AVX512VNNI__
#error "avx512vnni.cpp must be compiled with -mavx512vnni"
#endif

namespace bigrain::simd {

constinit const Kernels avx512vnni_kernels = table_of<Avx512>(Isa::avx512, "avx512");

}  // namespace bigrain::simd
