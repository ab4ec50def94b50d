// SPDX-License-Identifier: Apache-2.0
// bigrain._core.Rabitq and bigrain._core.ScalarQuantizer: the quantizers of centred and rotated
// vectors, verb by verb.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "arrays.h"
#include "bindings.h"
#include "call.h"
#include "quant/rabitq.h"
#include "quant/scalar_quantizer.h"

namespace py = pybind11;

namespace bigrain::python {

namespace {

template <class T>
std::vector<T> values_of(const py::array& array, const char* name) {
  if (!is_contiguous(array) || !array.dtype().equal(py::dtype::of<T>())) {
    throw Error::invalid(std::string(name) + ": wrong type or layout");
  }
  const T* const data = static_cast<const T*>(array.data());
  return {data, data + array.size()};
}

template <class T>
py::array copy_of(std::span<const T> values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

template <class Quantizer>
quant::Records records_of(const Quantizer& self, const py::array& codes) {
  const MatrixView view = matrix_of(codes, "codes");
  if (view.dtype != Dtype::u8 || view.dim != self.code_size()) {
    throw Error::invalid("codes: expected uint8 records of " + std::to_string(self.code_size()) +
                         " bytes");
  }
  return {static_cast<const std::byte*>(view.data), view.rows};
}

template <class Quantizer>
Quantizer fit(const py::array& x, uint32_t bits, uint64_t seed, uint32_t threads,
              const py::object& progress) {
  const MatrixView view = matrix_of(x, "x");
  return run_watched(progress, [&](Monitor& monitor) {
    return Quantizer(bits, quant::Frame::fit(view, seed, threads, monitor));
  });
}

template <class Quantizer>
Quantizer from_parts(uint32_t bits, const py::array& centre, const py::array& signs) {
  return {bits,
          quant::Frame(values_of<float>(centre, "centre"), values_of<uint8_t>(signs, "signs"))};
}

template <class Quantizer>
void encode(const Quantizer& self, const py::array& x, py::array codes, uint32_t threads,
            const py::object& progress) {
  const MatrixView view = matrix_of(x, "x");
  auto* const out = output_of<uint8_t>(codes, view.rows, self.code_size(), "codes");
  run_watched(progress, [&](Monitor& monitor) {
    self.encode(view, threads, monitor, reinterpret_cast<std::byte*>(out));
  });
}

template <class Quantizer>
void decode(const Quantizer& self, const py::array& codes, py::array out, uint32_t threads,
            const py::object& progress) {
  const quant::Records records = records_of(self, codes);
  float* const vectors = output_of<float>(out, records.count, self.dim(), "out");
  run_watched(progress, [&](Monitor& monitor) { self.decode(records, threads, monitor, vectors); });
}

template <class Quantizer>
void distance(const Quantizer& self, const py::array& queries, const py::array& codes,
              const std::string& metric, py::array out, uint32_t threads,
              const py::object& progress) {
  const MatrixView view = matrix_of(queries, "queries");
  const quant::Records records = records_of(self, codes);
  const Metric kind = metric_of(metric);
  float* const distances = output_of<float>(out, view.rows, records.count, "out");
  run_watched(progress, [&](Monitor& monitor) {
    self.distance(view, records, kind, threads, monitor, distances);
  });
}

void bounds(const quant::Rabitq& self, const py::array& queries, const py::array& codes,
            const std::string& metric, float epsilon, py::array estimate, py::array lower,
            py::array upper, uint32_t threads, const py::object& progress) {
  const MatrixView view = matrix_of(queries, "queries");
  const quant::Records records = records_of(self, codes);
  const Metric kind = metric_of(metric);
  const quant::Rabitq::Bounds out{output_of<float>(estimate, view.rows, records.count, "estimate"),
                                  output_of<float>(lower, view.rows, records.count, "lower"),
                                  output_of<float>(upper, view.rows, records.count, "upper")};
  run_watched(progress, [&](Monitor& monitor) {
    self.distance_bounds(view, records, kind, epsilon, threads, monitor, out);
  });
}

template <class Quantizer>
py::class_<Quantizer> define(py::module_& module, const char* name) {
  using py::arg;
  return py::class_<Quantizer>(module, name)
      .def_static("fit", &fit<Quantizer>, arg("x"), arg("bits"), arg("seed"), arg("threads"),
                  arg("progress"))
      .def_static("from_parts", &from_parts<Quantizer>, arg("bits"), arg("centre"), arg("signs"))
      .def_property_readonly("dim", &Quantizer::dim)
      .def_property_readonly("bits", &Quantizer::bits)
      .def_property_readonly("code_size", &Quantizer::code_size)
      .def("centre", [](const Quantizer& self) { return copy_of(self.frame().centre()); })
      .def("signs", [](const Quantizer& self) { return copy_of(self.frame().signs()); })
      .def("encode", &encode<Quantizer>, arg("x"), arg("codes"), arg("threads"), arg("progress"))
      .def("decode", &decode<Quantizer>, arg("codes"), arg("out"), arg("threads"), arg("progress"))
      .def("distance", &distance<Quantizer>, arg("queries"), arg("codes"), arg("metric"),
           arg("out"), arg("threads"), arg("progress"));
}

}  // namespace

void register_rabitq(py::module_& module) {
  using py::arg;
  define<quant::Rabitq>(module, "Rabitq")
      .def("distance_bounds", &bounds, arg("queries"), arg("codes"), arg("metric"), arg("epsilon"),
           arg("estimate"), arg("lower"), arg("upper"), arg("threads"), arg("progress"));
  define<quant::ScalarQuantizer>(module, "ScalarQuantizer");
}

}  // namespace bigrain::python
