// SPDX-License-Identifier: Apache-2.0
// bigrain._core.BuildParams, which all builds take, and build_to: an index file from a file of
// vectors.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <span>
#include <string>
#include <tuple>

#include "arrays.h"
#include "bigrain/build_to.h"
#include "bindings.h"
#include "build_options.h"
#include "call.h"
#include "io/file_system.h"

namespace py = pybind11;

namespace bigrain::python {

namespace {

// Path, offset, row stride, rows, dim, dtype.
using Source = std::tuple<std::string, uint64_t, uint64_t, uint64_t, uint32_t, std::string>;

Dtype dtype_of(const std::string& name) {
  for (const Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::i8, Dtype::u8}) {
    if (name == name_of(dtype)) return dtype;
  }
  throw Error::invalid("dtype: found '" + name + "'");
}

BuildOptions options(const std::string& metric, const std::string& builder, uint32_t degree,
                     uint32_t build_width, float alpha, uint32_t code_dim, uint32_t pq_bytes,
                     const std::optional<py::array>& train_queries, uint64_t seed,
                     uint32_t threads) {
  BuildParams params{metric_of(metric), builder_of(builder), degree, build_width, alpha, code_dim};
  params.pq_bytes = pq_bytes;
  if (train_queries) params.train_queries = matrix_of(*train_queries, "train_queries");
  params.seed = seed;
  params.threads = threads;
  return {params, train_queries};
}

uint64_t build(const std::string& path, const Source& source,
               const std::optional<py::array_t<int64_t, py::array::c_style>>& ids,
               const BuildOptions& options, uint64_t memory, const std::string& work, bool clean,
               const py::object& progress) {
  const auto& [file, offset, stride, rows, dim, dtype] = source;
  const VectorFile vectors{file, offset, stride, rows, dim, dtype_of(dtype)};
  std::span<const int64_t> own;
  if (ids) own = {ids->data(), static_cast<size_t>(ids->size())};
  if (ids && own.size() != rows) throw Error::invalid("ids: expected one per vector");
  const DiskBuildParams disk{.memory = memory, .work = work, .clean = clean};
  return run_watched(progress, [&](Monitor& monitor) {
    return build_to(io::posix(), path, vectors, own, options.params, disk, monitor);
  });
}

}  // namespace

void register_build_to(py::module_& module) {
  using py::arg;
  py::class_<BuildOptions>(module, "BuildParams")
      .def(py::init(&options), arg("metric"), arg("builder"), arg("degree"), arg("build_width"),
           arg("alpha"), arg("code_dim"), arg("pq_bytes"), arg("train_queries"), arg("seed"),
           arg("threads"));
  module.def("build_to", &build, arg("path"), arg("source"), arg("ids"), arg("params"),
             arg("memory"), arg("work"), arg("clean"), arg("progress"));
}

}  // namespace bigrain::python
