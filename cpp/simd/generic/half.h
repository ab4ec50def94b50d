// SPDX-License-Identifier: Apache-2.0
// The element type of stored float16 vectors: bits only, so that no compiler needs a half type.
#pragma once

#include <cstdint>

namespace bigrain::simd {

enum class Half : uint16_t {};

}  // namespace bigrain::simd
