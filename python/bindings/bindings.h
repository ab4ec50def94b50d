// SPDX-License-Identifier: Apache-2.0
// What module.cpp registers, one function per file.
#pragma once

#include <pybind11/pybind11.h>

namespace bigrain::python {

void register_errors(pybind11::module_& module);
void register_build_to(pybind11::module_& module);
void register_index(pybind11::module_& module);
void register_exact(pybind11::module_& module);
void register_pq(pybind11::module_& module);
void register_rabitq(pybind11::module_& module);
void register_simd(pybind11::module_& module);

}  // namespace bigrain::python
