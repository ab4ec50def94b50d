// SPDX-License-Identifier: Apache-2.0
// The table of one vector trait. An ISA file is a trait in an anonymous namespace and one table:
// the trait's internal linkage gives internal linkage to every kernel instantiated over it, so that
// no other file can be handed code that its machine cannot run.
#pragma once

#include "simd/gemm.h"
#include "simd/generic/distance_float.h"
#include "simd/generic/distance_int.h"
#include "simd/generic/distance_tile.h"
#include "simd/generic/fast_scan.h"
#include "simd/generic/gate.h"
#include "simd/generic/hadamard.h"
#include "simd/generic/nearest.h"
#include "simd/generic/score_codes.h"
#include "simd/generic/smallest.h"
#include "simd/kernels.h"

namespace bigrain::simd {

template <class V>
constexpr Kernels table_of(Isa isa, const char* name) {
  return {
      isa,
      name,
      {{l2_float<V, float>, l2_float<V, Half>, l2_int<V, int8_t>, l2_int<V, uint8_t>},
       {ip_float<V, float>, ip_float<V, Half>, ip_int<V, int8_t>, ip_int<V, uint8_t>},
       {cosine_float<V, float>, cosine_float<V, Half>, cosine_int<V, int8_t>,
        cosine_int<V, uint8_t>}},
      score_codes<ByteCodes<V>>,
      score_codes<NibbleCodes<V>>,
      hadamard<V>,
      gemm_tile<V, true>,
      gemm_tile<V, false>,
      kGemmTileRows<V>,
      kGemmTileCols<V>,
      fast_scan<V>,
      gate<V>,
      distance_tile<V>,
      V::kTileRows,
      V::kTileVectors * V::kDotLanes,
      smallest<V>,
      nearest_tile<V>,
      kNearestRows<V>,
      kNearestCols<V>,
  };
}

}  // namespace bigrain::simd
