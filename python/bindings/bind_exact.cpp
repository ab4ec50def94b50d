// SPDX-License-Identifier: Apache-2.0
// Exact search: ground truth.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "arrays.h"
#include "bigrain/exact.h"
#include "bindings.h"
#include "call.h"

namespace py = pybind11;

namespace bigrain::python {

namespace {

void exact(const py::array& base, const py::array& queries, const std::string& metric, uint32_t k,
           uint32_t threads, py::array ids, py::array distances, const py::object& progress) {
  const MatrixView base_view = matrix_of(base, "base"), query_view = matrix_of(queries, "queries");
  const Metric kind = metric_of(metric);
  int64_t* const ids_out = output_of<int64_t>(ids, query_view.rows, k, "ids");
  float* const distances_out = output_of<float>(distances, query_view.rows, k, "distances");
  run_watched(progress, [&](Monitor& monitor) {
    exact_search(base_view, query_view, kind, k, threads, ids_out, distances_out, monitor);
  });
}

}  // namespace

void register_exact(py::module_& module) {
  module.def("exact_search", &exact, py::arg("base"), py::arg("queries"), py::arg("metric"),
             py::arg("k"), py::arg("threads"), py::arg("ids"), py::arg("distances"),
             py::arg("progress"));
}

}  // namespace bigrain::python
