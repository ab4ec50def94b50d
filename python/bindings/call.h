// SPDX-License-Identifier: Apache-2.0
// How a long call of the core runs under Python: without the GIL, yet watched.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <utility>

#include "util/monitor.h"

namespace bigrain::python {

// The calling thread without the GIL, until destroyed. Not pybind11's class: CPython before 3.14
// ends a daemon thread that asks for the GIL while the interpreter exits by unwinding its stack,
// which no destructor or catch (...) survives. Such a thread sleeps instead, as 3.14 has it.
class ReleasedGil {
 public:
  ReleasedGil() : state_(PyEval_SaveThread()) {}
  ~ReleasedGil() { take(); }
  ReleasedGil(const ReleasedGil&) = delete;
  ReleasedGil& operator=(const ReleasedGil&) = delete;

  // Same thread only: body() with the GIL.
  template <class Body>
  auto briefly_held(Body&& body) {
    struct Held {
      explicit Held(ReleasedGil& gil) : gil_(gil) { gil_.take(); }
      ~Held() { gil_.state_ = PyEval_SaveThread(); }
      ReleasedGil& gil_;
    };
    const Held held(*this);
    return std::forward<Body>(body)();
  }

 private:
  void take() noexcept {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {  // C code throws nothing else
      while (true) pause();
    }
  }

  PyThreadState* state_;
};

// Runs body(monitor) with the GIL released. The monitor's polls take the GIL for a moment, let
// Python handle signals (so Ctrl-C raises KeyboardInterrupt) and call progress(done, total) unless
// it is None: False cancels, an exception of either passes through.
template <class Body>
auto run_watched(const pybind11::object& progress, Body&& body) {
  ReleasedGil gil;
  Monitor monitor([&](uint64_t done, uint64_t total) {
    return gil.briefly_held([&] {
      if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
      return progress.is_none() || !progress(done, total).is(pybind11::handle(Py_False));
    });
  });
  return std::forward<Body>(body)(monitor);
}

}  // namespace bigrain::python
