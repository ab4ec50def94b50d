// SPDX-License-Identifier: Apache-2.0
// bigrain._core.Index: the core's Index, verb by verb.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "arrays.h"
#include "bigrain/index.h"
#include "bindings.h"
#include "build_options.h"
#include "call.h"
#include "format/index_file.h"
#include "format/parts.h"
#include "index/residency.h"
#include "io/file_system.h"

namespace py = pybind11;

namespace bigrain::python {

namespace {

// k, width, rerank, recall, slack
using TuneRow = std::tuple<uint32_t, uint32_t, uint32_t, float, float>;

Verify verify_of(const std::string& name) {
  if (name == "full") return Verify::full;
  if (name == "header") return Verify::header;
  if (name == "off") return Verify::off;
  throw Error::invalid("verify: expected 'full', 'header' or 'off', found '" + name + "'");
}

const int64_t* ids_of(const std::optional<py::array>& ids, size_t rows) {
  if (!ids) return nullptr;
  if (!is_contiguous(*ids) || !ids->dtype().equal(py::dtype::of<int64_t>()) ||
      static_cast<size_t>(ids->size()) != rows) {
    throw Error::invalid("ids: expected one C-contiguous int64 per vector");
  }
  return static_cast<const int64_t*>(ids->data());
}

Index build(const py::array& vectors, const std::optional<py::array>& ids,
            const BuildOptions& options, const py::object& progress) {
  const MatrixView view = matrix_of(vectors, "vectors");
  const int64_t* const ids_in = ids_of(ids, view.rows);
  return run_watched(progress, [&](Monitor& monitor) {
    return Index::build(view, ids_in, options.params, monitor);
  });
}

Index from_graph(const py::array& vectors, const std::optional<py::array>& ids,
                 const py::array& graph, const std::optional<uint32_t>& entry,
                 const BuildOptions& options, const py::object& progress) {
  const MatrixView view = matrix_of(vectors, "vectors");
  if (graph.ndim() != 2 || !is_contiguous(graph) ||
      !graph.dtype().equal(py::dtype::of<uint32_t>()) ||
      static_cast<size_t>(graph.shape(0)) != view.rows) {
    throw Error::invalid("graph: expected C-contiguous uint32, one row per vector");
  }
  BuildParams params = options.params;
  params.graph = {static_cast<const uint32_t*>(graph.data()), static_cast<uint32_t>(graph.shape(1)),
                  entry};
  const int64_t* const ids_in = ids_of(ids, view.rows);
  return run_watched(progress,
                     [&](Monitor& monitor) { return Index::build(view, ids_in, params, monitor); });
}

Layout layout_of(const std::string& name) {
  if (name == "compact") return Layout::compact;
  if (name == "fast") return Layout::fast;
  throw Error::invalid("layout: expected 'compact' or 'fast', found '" + name + "'");
}

void set_layout(Index& self, const std::string& layout, uint32_t threads,
                const py::object& progress) {
  const Layout wanted = layout_of(layout);
  run_watched(progress, [&](Monitor& monitor) { self.set_layout(wanted, threads, monitor); });
}

void set_codes(Index& self, const py::array& rotation, uint32_t subs, const py::array& codebooks,
               const std::optional<py::array>& codes, uint32_t threads,
               const py::object& progress) {
  GivenCodes given{matrix_of(rotation, "rotation"), matrix_of(codebooks, "codebooks"), subs};
  if (codes) {
    if (!is_contiguous(*codes) || !codes->dtype().equal(py::dtype::of<uint8_t>()) ||
        static_cast<uint64_t>(codes->size()) != self.parts().meta.count * subs) {
      throw Error::invalid("codes: expected C-contiguous uint8, one code per vector");
    }
    given.codes = static_cast<const uint8_t*>(codes->data());
  }
  run_watched(progress, [&](Monitor& monitor) { self.set_codes(given, threads, monitor); });
}

Index open(const std::string& path, const std::string& verify, uint64_t memory,
           const std::string& io, const py::object& progress) {
  const OpenParams params{.verify = verify_of(verify), .memory = memory, .io = io};
  return run_watched(progress,
                     [&](Monitor& monitor) { return Index::open(path, params, monitor); });
}

bool in_memory(const Index& self) { return self.residency().mode == SearchMode::memory; }

py::dict residency(const Index& self) {
  const Residency& plan = self.residency();
  return py::dict(py::arg("mode") = name_of(plan.mode), py::arg("budget") = plan.budget,
                  py::arg("bytes") = plan.bytes, py::arg("hot_rows") = plan.hot_rows,
                  py::arg("hot_vectors") = plan.hot_vectors, py::arg("entries") = plan.entries,
                  py::arg("reason") = plan.reason, py::arg("io") = self.io());
}

Index from_bytes(const py::buffer& data, const std::string& verify) {
  const py::buffer_info info = data.request();
  if (info.ndim != 1 || info.itemsize != 1) throw Error::invalid("data: expected a bytes object");
  const std::span bytes(static_cast<const std::byte*>(info.ptr), static_cast<size_t>(info.size));
  const Verify level = verify_of(verify);
  return run_watched(py::none(),
                     [&](Monitor& monitor) { return Index::from_bytes(bytes, level, monitor); });
}

uint64_t save(const Index& self, const std::string& path, const py::object& progress) {
  return run_watched(progress, [&](Monitor& monitor) { return self.save(path, monitor); });
}

py::bytes to_bytes(const Index& self) {
  std::vector<std::byte> bytes;
  {
    const ReleasedGil released;
    bytes = self.to_bytes();
  }
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void search(const Index& self, const py::array& queries, uint32_t k, uint32_t width,
            uint32_t rerank, float slack, uint32_t threads, bool deterministic, py::array ids,
            py::array distances, std::optional<py::array> stats, const py::object& progress) {
  const MatrixView view = matrix_of(queries, "queries");
  SearchOutput output;
  output.ids = output_of<int64_t>(ids, view.rows, k, "ids");
  output.distances = output_of<float>(distances, view.rows, k, "distances");
  if (stats) {
    output.stats = reinterpret_cast<QueryStats*>(
        output_of<uint32_t>(*stats, view.rows, kQueryStatsFields, "stats"));
  }
  const SearchParams params{.k = k,
                            .width = width,
                            .rerank = rerank,
                            .slack = slack,
                            .threads = threads,
                            .deterministic = deterministic};
  run_watched(progress, [&](Monitor& monitor) { self.search(view, params, output, monitor); });
}

py::dict validate(const Index& self, const py::object& progress) {
  const ValidationReport report =
      run_watched(progress, [&](Monitor& monitor) { return self.validate(monitor); });
  return py::dict(py::arg("points") = report.points, py::arg("edges") = report.edges,
                  py::arg("unreachable") = report.unreachable,
                  py::arg("empty_rows") = report.empty_rows,
                  py::arg("max_degree") = report.max_degree, py::arg("problems") = report.problems);
}

std::vector<TuneRow> tuning(const Index& self) {
  std::vector<TuneRow> rows;
  for (const TunePoint& point : self.tuning()) {
    rows.emplace_back(point.k, point.width, point.rerank, point.recall, point.slack);
  }
  return rows;
}

void set_tuning(Index& self, const std::vector<TuneRow>& rows) {
  std::vector<TunePoint> points;
  points.reserve(rows.size());
  for (const auto& [k, width, rerank, recall, slack] : rows) {
    points.push_back({.k = k, .width = width, .recall = recall, .rerank = rerank, .slack = slack});
  }
  self.set_tuning(std::move(points));
}

void set_rows(Index& self, const py::array& points, const py::array& rows) {
  const auto is_ids = [](const py::array& array) {
    return is_contiguous(array) && array.dtype().equal(py::dtype::of<uint32_t>());
  };
  const uint64_t degree = self.parts().meta.degree;
  if (!is_ids(points) || !is_ids(rows) ||
      static_cast<uint64_t>(rows.size()) != static_cast<uint64_t>(points.size()) * degree) {
    throw Error::invalid("rows: expected C-contiguous uint32, one row of the graph per point");
  }
  self.set_rows({static_cast<const uint32_t*>(points.data()), static_cast<size_t>(points.size())},
                static_cast<const uint32_t*>(rows.data()));
}

py::dict meta(const Index& self) {
  const IndexMeta& meta = self.parts().meta;
  return py::dict(
      py::arg("metric") = name_of(meta.metric), py::arg("dtype") = name_of(meta.dtype),
      py::arg("dim") = meta.dim, py::arg("count") = meta.count, py::arg("degree") = meta.degree,
      py::arg("entry") = meta.entry, py::arg("build_width") = meta.build_width,
      py::arg("alpha") = meta.alpha, py::arg("code_dim") = meta.code_dim,
      py::arg("code_stride") = code_stride(meta.code_dim), py::arg("pq_bytes") = meta.pq_bytes,
      py::arg("pq_given") = meta.pq_given, py::arg("seed") = meta.seed);
}

py::dict part_bytes(const Index& self) {
  const IndexParts& parts = self.parts();
  return py::dict(
      py::arg("graph") = parts.graph.size(), py::arg("codes") = parts.codes.size(),
      py::arg("blocks") = parts.blocks.size(), py::arg("vectors") = parts.vectors.size(),
      py::arg("ids") = parts.ids.size(), py::arg("mean") = parts.mean.size(),
      py::arg("signs") = parts.signs.size(), py::arg("scales") = parts.scales.size(),
      py::arg("projection") = parts.projection.size(), py::arg("pq_codes") = parts.pq_codes.size(),
      py::arg("pq_codebooks") =
          parts.pq_codebooks.size() + self.pq_column_bytes() + parts.pq_rotation.size(),
      py::arg("hot") = parts.hot.size() + self.hot_row_bytes(),
      py::arg("page_sums") = self.page_sum_bytes(),
      py::arg("trials") = parts.trials.size() * sizeof(CodeDimTrial),
      py::arg("tuning") = parts.tuning.size() * sizeof(TunePoint));
}

std::vector<std::tuple<uint32_t, float, float>> trials(const Index& self) {
  std::vector<std::tuple<uint32_t, float, float>> rows;
  for (const CodeDimTrial& trial : self.parts().trials) {
    rows.emplace_back(trial.code_dim, trial.rerank, trial.cost);
  }
  return rows;
}

py::array vectors(const py::object& self) {
  const IndexParts& parts = self.cast<const Index&>().parts();
  return view_of(self, parts.vectors, numpy_dtype(parts.meta.dtype),
                 {static_cast<py::ssize_t>(parts.meta.count), parts.meta.dim});
}

py::array graph(const py::object& self) {
  const IndexParts& parts = self.cast<const Index&>().parts();
  return view_of(self, parts.graph, py::dtype::of<uint32_t>(),
                 {static_cast<py::ssize_t>(parts.meta.count), parts.meta.degree});
}

py::object ids(const py::object& self) {
  const IndexParts& parts = self.cast<const Index&>().parts();
  if (parts.ids.size() == 0) return py::none();
  return view_of(self, parts.ids, py::dtype::of<int64_t>(),
                 {static_cast<py::ssize_t>(parts.meta.count)});
}

std::string describe(const std::string& path) { return format::describe(io::posix(), path); }

}  // namespace

void register_index(py::module_& module) {
  using py::arg;
  module.def("describe", &describe, arg("path"));
  py::class_<Index>(module, "Index")
      .def_static("build", &build, arg("vectors"), arg("ids"), arg("params"), arg("progress"))
      .def_static("from_graph", &from_graph, arg("vectors"), arg("ids"), arg("graph"), arg("entry"),
                  arg("params"), arg("progress"))
      .def_static("open", &open, arg("path"), arg("verify"), arg("memory"), arg("io"),
                  arg("progress"))
      .def("in_memory", &in_memory)
      .def("residency", &residency)
      .def_static("from_bytes", &from_bytes, arg("data"), arg("verify"))
      .def("save", &save, arg("path"), arg("progress"))
      .def("to_bytes", &to_bytes)
      .def("set_layout", &set_layout, arg("layout"), arg("threads"), arg("progress"))
      .def("search", &search, arg("queries"), arg("k"), arg("width"), arg("rerank"), arg("slack"),
           arg("threads"), arg("deterministic"), arg("ids"), arg("distances"), arg("stats"),
           arg("progress"))
      .def("validate", &validate, arg("progress"))
      .def("tuning", &tuning)
      .def("set_tuning", &set_tuning, arg("rows"))
      .def("set_rows", &set_rows, arg("points"), arg("rows"))
      .def("trials", &trials)
      .def("set_codes", &set_codes, py::arg("rotation"), py::arg("m"), py::arg("codebooks"),
           py::arg("codes"), py::arg("threads"), py::arg("progress"))
      .def("meta", &meta)
      .def("part_bytes", &part_bytes)
      .def("vectors", &vectors)
      .def("graph", &graph)
      .def("ids", &ids);
}

}  // namespace bigrain::python
