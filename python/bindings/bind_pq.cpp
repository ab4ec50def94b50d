// SPDX-License-Identifier: Apache-2.0
// bigrain._core.PQ: product quantization.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "arrays.h"
#include "bindings.h"
#include "call.h"
#include "quant/pq.h"
#include "quant/pq_scan.h"

namespace py = pybind11;

namespace bigrain::python {

namespace {

using quant::Pq;
using quant::PqParams;
using quant::PqShape;

const uint8_t* codes_of(const Pq& self, const py::array& codes) {
  if (codes.ndim() != 2 || !is_contiguous(codes) ||
      !codes.dtype().equal(py::dtype::of<uint8_t>()) ||
      static_cast<size_t>(codes.shape(1)) != self.shape().code_size())
    throw Error::invalid("codes: expected C-contiguous uint8 of the quantizer's code size");
  return static_cast<const uint8_t*>(codes.data());
}

MatrixView rows_of(const Pq& self, const py::array& x, const char* name) {
  const MatrixView view = matrix_of(x, name);
  if (view.dim != self.shape().dim) throw Error::invalid(std::string(name) + ": wrong dimension");
  return view;
}

Pq make(size_t dim, size_t subs, uint32_t bits, const py::array& codebooks) {
  const MatrixView view = matrix_of(codebooks, "codebooks");
  if (view.dtype != Dtype::f32) throw Error::invalid("codebooks: expected float32");
  const float* const values = static_cast<const float*>(view.data);
  return Pq({dim, subs, bits}, std::vector<float>(values, values + view.rows * view.dim));
}

Pq fit(const py::array& x, size_t subs, uint32_t bits, uint32_t iterations, uint64_t seed,
       uint32_t threads, const py::object& progress) {
  const MatrixView view = matrix_of(x, "x");
  const PqShape shape{view.dim, subs, bits};
  const PqParams params{iterations, seed, threads};
  return run_watched(progress,
                     [&](Monitor& monitor) { return Pq::fit(view, shape, params, monitor); });
}

void encode(const Pq& self, const py::array& x, py::array codes, uint32_t threads) {
  const MatrixView view = rows_of(self, x, "x");
  uint8_t* const out = output_of<uint8_t>(codes, view.rows, self.shape().code_size(), "codes");
  run_watched(py::none(), [&](Monitor& monitor) { self.encode(view, out, threads, monitor); });
}

void decode(const Pq& self, const py::array& codes, py::array x, uint32_t threads) {
  const uint8_t* const in = codes_of(self, codes);
  const size_t rows = static_cast<size_t>(codes.shape(0));
  float* const out = output_of<float>(x, rows, self.shape().dim, "x");
  run_watched(py::none(), [&](Monitor& monitor) { self.decode(in, rows, out, threads, monitor); });
}

void distance(const Pq& self, const py::array& queries, const py::array& codes,
              const std::string& metric, py::array distances, uint32_t threads) {
  const MatrixView view = rows_of(self, queries, "queries");
  if (view.dtype != Dtype::f32) throw Error::invalid("queries: expected float32");
  const Metric kind = metric_of(metric);
  const uint8_t* const in = codes_of(self, codes);
  const size_t rows = static_cast<size_t>(codes.shape(0));
  float* const out = output_of<float>(distances, view.rows, rows, "distances");
  run_watched(py::none(), [&](Monitor& monitor) {
    quant::pq_distances(self, view, in, rows, kind, out, threads, monitor);
  });
}

void error_bound(const Pq& self, const py::array& queries, const std::string& metric,
                 py::array bounds) {
  const MatrixView view = rows_of(self, queries, "queries");
  if (view.dtype != Dtype::f32) throw Error::invalid("queries: expected float32");
  const Metric kind = metric_of(metric);
  float* const out = output_of<float>(bounds, view.rows, 1, "bounds");
  for (size_t i = 0; i < view.rows; ++i)
    out[i] = quant::scan_error_bound(self, static_cast<const float*>(view.row(i)), kind);
}

py::array_t<float> codebooks(const Pq& self) {
  return py::array_t<float>(static_cast<py::ssize_t>(self.codebooks().size()),
                            self.codebooks().data());
}

}  // namespace

void register_pq(py::module_& module) {
  py::class_<Pq>(module, "PQ")
      .def(py::init(&make), py::arg("dim"), py::arg("m"), py::arg("bits"), py::arg("codebooks"))
      .def_static("fit", &fit, py::arg("x"), py::arg("m"), py::arg("bits"), py::arg("iterations"),
                  py::arg("seed"), py::arg("threads"), py::arg("progress"))
      .def("encode", &encode, py::arg("x"), py::arg("codes"), py::arg("threads"))
      .def("decode", &decode, py::arg("codes"), py::arg("x"), py::arg("threads"))
      .def("distance", &distance, py::arg("queries"), py::arg("codes"), py::arg("metric"),
           py::arg("distances"), py::arg("threads"))
      .def("error_bound", &error_bound, py::arg("queries"), py::arg("metric"), py::arg("bounds"))
      .def("codebooks", &codebooks)
      .def("dim", [](const Pq& self) { return self.shape().dim; })
      .def("code_size", [](const Pq& self) { return self.shape().code_size(); });
}

}  // namespace bigrain::python
