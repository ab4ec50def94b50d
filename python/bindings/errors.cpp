// SPDX-License-Identifier: Apache-2.0
// bigrain::Error becomes the Python exception that its kind stands for.
#include <pybind11/gil_safe_call_once.h>
#include <pybind11/pybind11.h>

#include <cerrno>

#include "bigrain/error.h"
#include "bindings.h"

namespace py = pybind11;

namespace bigrain::python {

namespace {

PYBIND11_CONSTINIT py::gil_safe_call_once_and_store<py::object> corrupt_type;
PYBIND11_CONSTINIT py::gil_safe_call_once_and_store<py::object> cancelled_type;

py::object make_type(const char* name, const char* doc, PyObject* base) {
  return py::reinterpret_steal<py::object>(PyErr_NewExceptionWithDoc(name, doc, base, nullptr));
}

// OSError(errno, message, path) picks its own subclass: FileNotFoundError, PermissionError, ...
void raise_os_error(const Error& error) {
  const auto path = py::reinterpret_steal<py::object>(PyUnicode_DecodeFSDefaultAndSize(
      error.path().data(), static_cast<py::ssize_t>(error.path().size())));
  const int number = error.error_number() != 0 ? error.error_number() : EIO;
  const py::object exception =
      py::reinterpret_borrow<py::object>(PyExc_OSError)(number, error.what(), path);
  PyErr_SetObject(py::type::handle_of(exception).ptr(), exception.ptr());
}

void raise(const Error& error) {
  switch (error.kind()) {
    case ErrorKind::invalid_argument:
      return PyErr_SetString(PyExc_ValueError, error.what());
    case ErrorKind::corrupt:
      return PyErr_SetString(corrupt_type.get_stored().ptr(), error.what());
    case ErrorKind::io:
      return raise_os_error(error);
    case ErrorKind::not_supported:
      return PyErr_SetString(PyExc_NotImplementedError, error.what());
    case ErrorKind::cancelled:
      // Ctrl-C and exceptions of the callback travel as themselves (call.h): what is left is a
      // callback that returned False.
      return PyErr_SetString(cancelled_type.get_stored().ptr(),
                             "cancelled: the progress callback returned False");
  }
}

}  // namespace

void register_errors(py::module_& module) {
  corrupt_type.call_once_and_store_result([] {
    return make_type("bigrain.CorruptIndexError",
                     "The file or bytes are not a sound index: damaged, cut short, foreign, or of "
                     "a newer format. The message names the section at fault.",
                     PyExc_ValueError);
  });
  cancelled_type.call_once_and_store_result([] {
    return make_type("bigrain.Cancelled", "The progress callback returned False.", PyExc_Exception);
  });
  module.attr("CorruptIndexError") = corrupt_type.get_stored();
  module.attr("Cancelled") = cancelled_type.get_stored();
  py::register_local_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const Error& error) {
      raise(error);
    }
  });
}

}  // namespace bigrain::python
