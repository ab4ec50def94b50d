// SPDX-License-Identifier: Apache-2.0
// The vocabulary of the public interface: metrics, element types, borrowed matrices.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bigrain {

// Distances are always "smaller is closer":
//   l2      squared Euclidean distance
//   ip      negated inner product
//   cosine  1 - cosine similarity
// The numeric values are part of the file format.
enum class Metric : uint8_t { l2 = 0, ip = 1, cosine = 2 };

// Element type of stored vectors. The numeric values are part of the file format.
enum class Dtype : uint8_t { f32 = 0, f16 = 1, i8 = 2, u8 = 3 };

inline constexpr size_t kMetricCount = 3;
inline constexpr size_t kDtypeCount = 4;

constexpr size_t item_size(Dtype dtype) {
  return dtype == Dtype::f32 ? 4 : dtype == Dtype::f16 ? 2 : 1;
}

constexpr const char* name_of(Metric metric) {
  return metric == Metric::l2 ? "l2" : metric == Metric::ip ? "ip" : "cosine";
}

constexpr const char* name_of(Dtype dtype) {
  return dtype == Dtype::f32   ? "float32"
         : dtype == Dtype::f16 ? "float16"
         : dtype == Dtype::i8  ? "int8"
                               : "uint8";
}

// A borrowed, C-contiguous (rows, dim) matrix. The caller keeps it alive and unchanged.
struct MatrixView {
  const void* data = nullptr;
  size_t rows = 0;
  size_t dim = 0;
  Dtype dtype = Dtype::f32;

  const void* row(size_t i) const {
    return static_cast<const std::byte*>(data) + i * dim * item_size(dtype);
  }
};

}  // namespace bigrain
