// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "util/monitor.h"

namespace bigrain::format {

// Some value that occurs more than once in `values`, all of which are >= 0; nothing if they are
// distinct. Linear in time for every input; takes 16 bytes per value unless they are ascending.
std::optional<int64_t> find_repeated(std::span<const int64_t> values, Monitor& monitor);

}  // namespace bigrain::format
