// SPDX-License-Identifier: Apache-2.0
// What this machine runs: instruction sets, cores, and the limits of every parameter.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "bigrain/params.h"
#include "bindings.h"
#include "simd/kernels.h"
#include "util/thread_pool.h"

namespace py = pybind11;

namespace bigrain::python {

namespace {

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const simd::Isa isa :
       {simd::Isa::scalar, simd::Isa::avx2, simd::Isa::avx512, simd::Isa::neon}) {
    if (const simd::Kernels* kernels = simd::kernels_for(isa)) names.emplace_back(kernels->name);
  }
  return names;
}

// name: (least, default, most); params.h is the one place that states them.
py::dict limits() {
  py::dict table;
  table["dim"] = py::make_tuple(kMinDim, py::none(), kMaxDim);
  table["points"] = py::make_tuple(0, py::none(), kMaxPoints);
  table["degree"] = py::make_tuple(kMinDegree, kDefaultDegree, kMaxDegree);
  table["build_width"] = py::make_tuple(kMinBuildWidth, kDefaultBuildWidth, kMaxBuildWidth);
  table["alpha"] = py::make_tuple(kMinAlpha, kDefaultAlpha, kMaxAlpha);
  table["alpha_ip"] = py::make_tuple(kMinAlpha, kDefaultAlphaIp, kMaxAlphaIp);
  table["width"] = py::make_tuple(kMinWidth, kDefaultWidth, kMaxWidth);
  table["k"] = py::make_tuple(kMinK, kDefaultK, kMaxK);
  table["threads"] = py::make_tuple(0, 0, kMaxThreads);
  return table;
}

}  // namespace

void register_simd(py::module_& module) {
  module.def("active_isa", [] { return std::string(simd::active_kernels().name); });
  module.def("available_isas", &available_isas);
  module.def("usable_cores", &usable_cores);
  module.attr("LIMITS") = limits();
}

}  // namespace bigrain::python
