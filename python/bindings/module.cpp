// SPDX-License-Identifier: Apache-2.0
// The private extension module bigrain._core. The public classes, their documentation and their
// argument checks are Python (python/bigrain).
#include <pybind11/pybind11.h>

#include "bindings.h"

// Nothing here relies on the GIL for its own state: an index is read-only while it is searched.
PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
  module.attr("__version__") = BIGRAIN_VERSION;
  bigrain::python::register_errors(module);
  bigrain::python::register_build_to(module);
  bigrain::python::register_index(module);
  bigrain::python::register_exact(module);
  bigrain::python::register_pq(module);
  bigrain::python::register_rabitq(module);
  bigrain::python::register_simd(module);
}
