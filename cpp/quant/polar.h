// SPDX-License-Identifier: Apache-2.0
// The orthogonal polar factor: of all matrices with orthonormal columns the one nearest to a given
// one, which solves the orthogonal Procrustes problem (Schonemann, Psychometrika 31, 1966).
//
// Newton-Schulz iterations X <- X (3 I - X'X) / 2 push every singular value to 1 with matrix
// products alone (Higham, Functions of Matrices, 2008, 8.3), so the bits are the same for every
// number of threads and instruction set. What differs: each step scales X so that the cubic lifts
// the smallest singular value most (Chen and Chow, "A stable scaling of Newton-Schulz", 2014), 2.6
// times instead of 1.5.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "util/monitor.h"

namespace bigrain::quant {

// x (rows x cols, rows >= cols, row-major) becomes the polar factor of x + s near, where `near` has
// orthonormal columns and s is kPolarPull times the scale of x: directions in which x says nothing
// follow `near`. x of zeros becomes `near`.
void make_orthonormal(std::span<float> x, size_t rows, size_t cols, std::span<const float> near,
                      uint32_t threads, Monitor& monitor);

// Far below what moves the error of a codebook, and far above float's rounding of the iterations.
inline constexpr float kPolarPull = 1e-5f;

}  // namespace bigrain::quant
