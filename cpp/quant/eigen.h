// SPDX-License-Identifier: Apache-2.0
// Eigenvectors of a covariance, as a start for a trained rotation: good to a few digits.
//
// One-sided Jacobi (Hestenes, SIAM J. 6(1), 1958): plane rotations make the rows of V C orthogonal
// to each other, V a product of those rotations; then C is V' times a diagonal times V. Rows are
// contiguous, so every step is a dot product and two passes over rows; a fixed number of sweeps
// takes the place of a test for convergence, since only a start is wanted.
#pragma once

#include <cstddef>
#include <vector>

#include "util/monitor.h"

namespace bigrain::quant {

struct Eigen {
  std::vector<float> vectors;  // a row each, largest value first
  std::vector<double> values;
};

// c: dim x dim, symmetric and positive semidefinite.
Eigen eigen_of(std::vector<float> c, size_t dim, Monitor& monitor);

}  // namespace bigrain::quant
