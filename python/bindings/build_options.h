// SPDX-License-Identifier: Apache-2.0
// The parameters of a build as Python holds them.
#pragma once

#include <pybind11/numpy.h>

#include <optional>

#include "bigrain/params.h"

namespace bigrain::python {

struct BuildOptions {
  BuildParams params;
  std::optional<pybind11::array> train_queries;  // which the view in `params` borrows
};

}  // namespace bigrain::python
