// SPDX-License-Identifier: Apache-2.0
// The elements of a matrix in their own type.
#pragma once

#include <cstdint>

#include "bigrain/types.h"
#include "util/half.h"

namespace bigrain {

struct Half {
  uint16_t bits;
};

template <class T>
float to_float(T value) {
  return static_cast<float>(value);
}
inline float to_float(Half value) { return half_to_float(value.bits); }

// visit(const T* elements) with the T of the matrix.
template <class Visit>
void with_elements(const MatrixView& matrix, Visit&& visit) {
  switch (matrix.dtype) {
    case Dtype::f32:
      return visit(static_cast<const float*>(matrix.data));
    case Dtype::f16:
      return visit(static_cast<const Half*>(matrix.data));
    case Dtype::i8:
      return visit(static_cast<const int8_t*>(matrix.data));
    case Dtype::u8:
      return visit(static_cast<const uint8_t*>(matrix.data));
  }
}

}  // namespace bigrain
