// SPDX-License-Identifier: Apache-2.0
#include "simd/panels.h"

#include <algorithm>
#include <cstring>

namespace bigrain::simd {

namespace {

// A block of so many rows and elements is moved at once: few enough streams for the processor's
// prefetchers, and whole cache lines of the panel where it is that wide.
constexpr size_t kBlock = 16;
// Four floats in the compiler's portable vector type; panels are a multiple of it wide.
using Four = float __attribute__((vector_size(16)));
constexpr size_t kFour = 4;

// to[k * stride + c] = from[c][k] for the leading k of a block and four c.
void transpose_four(const float (*from)[kBlock], size_t count, float* to, size_t stride) {
  for (size_t k = 0; k < count; ++k) {
    const Four values = {from[0][k], from[1][k], from[2][k], from[3][k]};
    std::memcpy(to + k * stride, &values, sizeof values);
  }
}

// panel[k * columns + c] = rows[c][k] - centre[k] for the `count` rows of `dim` elements.
template <class T>
void transpose(const T* rows, size_t count, size_t dim, const float* centre, float* panel,
               size_t columns) {
  for (size_t c = 0; c < count; c += kBlock) {
    float block[kBlock][kBlock] = {};  // columns without a row stay zero
    const size_t present = std::min(kBlock, count - c), width = std::min(kBlock, columns - c);
    for (size_t k = 0; k < dim; k += kBlock) {
      const size_t length = std::min(kBlock, dim - k);
      for (size_t i = 0; i < present; ++i) {
        const T* from = rows + (c + i) * dim + k;
        const float* offset = centre == nullptr ? nullptr : centre + k;
        if (length == kBlock) {
          convert(from, kBlock, offset, block[i]);
        } else {
          convert(from, length, offset, block[i]);
        }
      }
      for (size_t i = 0; i < width; i += kFour)
        transpose_four(block + i, length, panel + k * columns + c + i, columns);
    }
  }
}

}  // namespace

void pack_panel(const MatrixView& x, size_t begin, size_t count, std::span<const float> centre,
                float* panel, size_t columns) {
  if (count < columns) std::fill_n(panel, columns * x.dim, 0.0f);
  with_elements(x, [&](const auto* elements) {
    transpose(elements + begin * x.dim, count, x.dim, centre.empty() ? nullptr : centre.data(),
              panel, columns);
  });
}

}  // namespace bigrain::simd
