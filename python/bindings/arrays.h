// SPDX-License-Identifier: Apache-2.0
// NumPy arrays as the core's views and back. Python has checked and converted what users pass; the
// checks here only keep a wrong call of the private module from touching foreign memory.
#pragma once

#include <pybind11/numpy.h>

#include <string>
#include <utility>
#include <vector>

#include "bigrain/error.h"
#include "bigrain/params.h"
#include "bigrain/types.h"
#include "util/buffer.h"

namespace bigrain::python {

inline Metric metric_of(const std::string& name) {
  for (const Metric metric : {Metric::l2, Metric::ip, Metric::cosine}) {
    if (name == name_of(metric)) return metric;
  }
  throw Error::invalid("metric: expected 'l2', 'ip' or 'cosine', found '" + name + "'");
}

inline Builder builder_of(const std::string& name) {
  if (name == "auto") return Builder::automatic;
  if (name == "vamana") return Builder::vamana;
  if (name == "partitioned") return Builder::partitioned;
  throw Error::invalid("builder: expected 'auto', 'vamana' or 'partitioned', found '" + name + "'");
}

inline pybind11::dtype numpy_dtype(Dtype dtype) { return pybind11::dtype(name_of(dtype)); }

inline bool is_contiguous(const pybind11::array& array) {
  return (array.flags() & pybind11::array::c_style) != 0;
}

// Borrows: the caller keeps `array` alive.
inline MatrixView matrix_of(const pybind11::array& array, const char* name) {
  if (array.ndim() != 2 || !is_contiguous(array)) {
    throw Error::invalid(std::string(name) + ": expected a C-contiguous 2-D array");
  }
  for (const Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::i8, Dtype::u8}) {
    if (array.dtype().equal(numpy_dtype(dtype))) {
      return {array.data(), static_cast<size_t>(array.shape(0)),
              static_cast<size_t>(array.shape(1)), dtype};
    }
  }
  throw Error::invalid(std::string(name) +
                       ": expected float32, float16, int8 or uint8 in native byte order");
}

// The memory of a writeable, C-contiguous array of exactly rows x columns items of type T.
template <class T>
T* output_of(pybind11::array& array, size_t rows, size_t columns, const char* name) {
  if (!is_contiguous(array) || !array.dtype().equal(pybind11::dtype::of<T>()) ||
      static_cast<size_t>(array.size()) != rows * columns) {
    throw Error::invalid(std::string(name) + ": wrong type, layout or size of an output array");
  }
  return static_cast<T*>(array.mutable_data());  // throws where it is read-only
}

// A read-only view of memory that `owner` keeps alive.
inline pybind11::array view_of(const pybind11::handle& owner, const Buffer& buffer,
                               const pybind11::dtype& dtype, std::vector<pybind11::ssize_t> shape) {
  ssize_t bytes = dtype.itemsize();
  for (const pybind11::ssize_t size : shape) bytes *= size;
  if (static_cast<size_t>(bytes) != buffer.size()) {
    throw Error::not_supported("this part of the index is on disk; open it with memory=\"all\"");
  }
  pybind11::array view(dtype, std::move(shape), buffer.data(), owner);
  view.attr("setflags")(pybind11::arg("write") = false);
  return view;
}

}  // namespace bigrain::python
