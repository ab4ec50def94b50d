// SPDX-License-Identifier: Apache-2.0
// A random rotation in O(d log d): it spreads the energy of a vector evenly over its coordinates,
// so that one scale per vector suits them all.
//
// Source: the fast Hadamard / Kac's-walk rotator described with RaBitQ (SIGMOD 2025) and by
// Ailon & Chazelle 2009. Four rounds of {random signs, Walsh-Hadamard on the largest power-of-two
// block, which lies first in even rounds and last in odd ones, one butterfly between the halves};
// the butterfly is left out where the block covers everything. Every step is orthonormal, so norms
// and inner products are kept.
#pragma once

#include <cstdint>
#include <span>

#include "simd/kernels.h"

namespace bigrain::quant {

// Fills `signs` (kRotationRounds x ceil(dim / 8) bytes) from the seed.
void draw_signs(uint64_t seed, uint32_t dim, std::span<uint8_t> signs);

// Rotates x[0..dim) in place.
void rotate(std::span<const uint8_t> signs, std::span<float> x, simd::HadamardFn hadamard);

// The inverse of rotate: every step is its own inverse, so the same steps from the last to the
// first.
void rotate_back(std::span<const uint8_t> signs, std::span<float> x, simd::HadamardFn hadamard);

}  // namespace bigrain::quant
