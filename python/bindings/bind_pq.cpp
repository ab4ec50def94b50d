// SPDX-License-Identifier: Apache-2.0
// bigrain._core.PQ and OPQ: product quantization, plain and behind a trained rotation.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "arrays.h"
#include "bindings.h"
#include "call.h"
#include "quant/opq.h"
#include "quant/pq.h"
#include "quant/pq_scan.h"

namespace py = pybind11;

namespace bigrain::python {

namespace {

using quant::Opq;
using quant::OpqParams;
using quant::Pq;
using quant::PqShape;

const Pq& inner(const Pq& self) { return self; }
const Pq& inner(const Opq& self) { return self.pq(); }
size_t dim_of(const Pq& self) { return self.shape().dim; }
size_t dim_of(const Opq& self) { return self.dim(); }

template <class Quantizer>
size_t code_size(const Quantizer& self) {
  return inner(self).shape().code_size();
}

template <class Quantizer>
const uint8_t* codes_of(const Quantizer& self, const py::array& codes) {
  if (codes.ndim() != 2 || !is_contiguous(codes) ||
      !codes.dtype().equal(py::dtype::of<uint8_t>()) ||
      static_cast<size_t>(codes.shape(1)) != code_size(self))
    throw Error::invalid("codes: expected C-contiguous uint8 of the quantizer's code size");
  return static_cast<const uint8_t*>(codes.data());
}

template <class Quantizer>
MatrixView rows_of(const Quantizer& self, const py::array& x, const char* name) {
  const MatrixView view = matrix_of(x, name);
  if (view.dim != dim_of(self)) throw Error::invalid(std::string(name) + ": wrong dimension");
  return view;
}

template <class Quantizer>
MatrixView queries_of(const Quantizer& self, const py::array& queries) {
  const MatrixView view = rows_of(self, queries, "queries");
  if (view.dtype != Dtype::f32) throw Error::invalid("queries: expected float32");
  return view;
}

std::vector<float> values_of(const py::array& array, const char* name) {
  const MatrixView view = matrix_of(array, name);
  if (view.dtype != Dtype::f32) throw Error::invalid(std::string(name) + ": expected float32");
  const float* const values = static_cast<const float*>(view.data);
  return {values, values + view.rows * view.dim};
}

Pq make_pq(size_t dim, size_t subs, uint32_t bits, const py::array& codebooks) {
  return Pq({dim, subs, bits}, values_of(codebooks, "codebooks"));
}

Opq make_opq(const py::array& rotation, size_t subs, uint32_t bits, const py::array& codebooks) {
  const MatrixView view = matrix_of(rotation, "rotation");
  return Opq(values_of(rotation, "rotation"), view.rows, make_pq(view.dim, subs, bits, codebooks));
}

Pq fit_pq(const py::array& x, size_t subs, uint32_t bits, uint32_t iterations, uint64_t seed,
          uint32_t threads, const py::object& progress) {
  const MatrixView view = matrix_of(x, "x");
  return run_watched(progress, [&](Monitor& monitor) {
    return Pq::fit(view, {view.dim, subs, bits}, {iterations, seed, threads}, monitor);
  });
}

Opq fit_opq(const py::array& x, size_t out, size_t subs, uint32_t bits, uint32_t rotations,
            uint32_t iterations, uint64_t seed, uint32_t threads, const py::object& progress) {
  const MatrixView view = matrix_of(x, "x");
  const OpqParams params{rotations, {iterations, seed, threads}};
  return run_watched(progress, [&](Monitor& monitor) {
    return Opq::fit(view, {out, subs, bits}, params, monitor);
  });
}

template <class Quantizer>
void encode(const Quantizer& self, const py::array& x, py::array codes, uint32_t threads) {
  const MatrixView view = rows_of(self, x, "x");
  uint8_t* const out = output_of<uint8_t>(codes, view.rows, code_size(self), "codes");
  run_watched(py::none(), [&](Monitor& monitor) { self.encode(view, out, threads, monitor); });
}

template <class Quantizer>
void decode(const Quantizer& self, const py::array& codes, py::array x, uint32_t threads) {
  const uint8_t* const in = codes_of(self, codes);
  const size_t rows = static_cast<size_t>(codes.shape(0));
  float* const out = output_of<float>(x, rows, dim_of(self), "x");
  run_watched(py::none(), [&](Monitor& monitor) { self.decode(in, rows, out, threads, monitor); });
}

template <class Quantizer>
void distance(const Quantizer& self, const py::array& queries, const py::array& codes,
              const std::string& metric, py::array distances, uint32_t threads) {
  const MatrixView view = queries_of(self, queries);
  const Metric kind = metric_of(metric);
  const uint8_t* const in = codes_of(self, codes);
  const size_t rows = static_cast<size_t>(codes.shape(0));
  float* const out = output_of<float>(distances, view.rows, rows, "distances");
  run_watched(py::none(), [&](Monitor& monitor) {
    if constexpr (std::is_same_v<Quantizer, Pq>) {
      quant::pq_distances(self, view, in, rows, kind, out, threads, monitor);
    } else {
      self.distances(view, in, rows, kind, out, threads, monitor);
    }
  });
}

template <class Quantizer>
void error_bound(const Quantizer& self, const py::array& queries, const std::string& metric,
                 py::array bounds) {
  const MatrixView view = queries_of(self, queries);
  const Metric kind = metric_of(metric);
  float* const out = output_of<float>(bounds, view.rows, 1, "bounds");
  run_watched(py::none(), [&](Monitor& monitor) {
    if constexpr (std::is_same_v<Quantizer, Pq>) {
      quant::pq_error_bounds(self, view, kind, out);
    } else {
      self.error_bounds(view, kind, out, monitor);
    }
  });
}

template <class Quantizer>
py::array_t<float> codebooks(const Quantizer& self) {
  const std::span<const float> values = inner(self).codebooks();
  return py::array_t<float>(static_cast<py::ssize_t>(values.size()), values.data());
}

py::array_t<float> rotation(const Opq& self) {
  return py::array_t<float>({self.dim(), self.pq().shape().dim}, self.rotation().data());
}

template <class Quantizer>
void add_verbs(py::class_<Quantizer>& type) {
  type.def("encode", &encode<Quantizer>, py::arg("x"), py::arg("codes"), py::arg("threads"))
      .def("decode", &decode<Quantizer>, py::arg("codes"), py::arg("x"), py::arg("threads"))
      .def("distance", &distance<Quantizer>, py::arg("queries"), py::arg("codes"),
           py::arg("metric"), py::arg("distances"), py::arg("threads"))
      .def("error_bound", &error_bound<Quantizer>, py::arg("queries"), py::arg("metric"),
           py::arg("bounds"))
      .def("codebooks", &codebooks<Quantizer>)
      .def("dim", [](const Quantizer& self) { return dim_of(self); })
      .def("code_size", [](const Quantizer& self) { return code_size(self); });
}

}  // namespace

void register_pq(py::module_& module) {
  py::class_<Pq> pq(module, "PQ");
  pq.def(py::init(&make_pq), py::arg("dim"), py::arg("m"), py::arg("bits"), py::arg("codebooks"))
      .def_static("fit", &fit_pq, py::arg("x"), py::arg("m"), py::arg("bits"),
                  py::arg("iterations"), py::arg("seed"), py::arg("threads"), py::arg("progress"));
  add_verbs(pq);
  py::class_<Opq> opq(module, "OPQ");
  opq.def(py::init(&make_opq), py::arg("rotation"), py::arg("m"), py::arg("bits"),
          py::arg("codebooks"))
      .def_static("fit", &fit_opq, py::arg("x"), py::arg("d_out"), py::arg("m"), py::arg("bits"),
                  py::arg("n_iter"), py::arg("iterations"), py::arg("seed"), py::arg("threads"),
                  py::arg("progress"))
      .def("rotation", &rotation);
  add_verbs(opq);
}

}  // namespace bigrain::python
