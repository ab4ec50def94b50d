// SPDX-License-Identifier: Apache-2.0
// The directions in which data varies most (principal components).
//
// Orthogonal iteration (Golub & Van Loan, Matrix Computations, section 8.2): from a block of rows
// of the sample, multiply by the second-moment matrix and orthonormalise, a fixed number of times.
// The result is used as a subspace, whose vectors are mixed by a rotation afterwards, so that the
// eigenvectors themselves need not have converged; a few rounds suffice, where a full
// eigendecomposition of 784 dimensions takes seconds. Leading vectors converge first: the first m
// vectors span nearly the best subspace of m dimensions, for every m.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "simd/kernels.h"
#include "util/monitor.h"

namespace bigrain::quant {

struct PrincipalDirections {
  std::vector<float> vectors;      // count x dim, orthonormal rows, leading first
  std::vector<double> deviations;  // dim: root mean square of each coordinate of the sample
};

// `sample`: rows x dim, centred. 1 <= count <= dim. Deterministic for every number of threads and
// every instruction set.
PrincipalDirections principal_directions(std::span<const float> sample, size_t dim, size_t count,
                                         const simd::Kernels& kernels, uint32_t threads,
                                         Monitor& monitor);

}  // namespace bigrain::quant
