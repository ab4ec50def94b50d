// SPDX-License-Identifier: Apache-2.0
// Names the kind of a file that is not an index, so that the message can say what was opened.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace bigrain::format {

// "a PNG image", "a NumPy array (.npy)", ... or "data of an unknown kind". `head` is the beginning
// of the file, 4 KiB where it has as many.
std::string looks_like(std::span<const std::byte> head, uint64_t file_size);

}  // namespace bigrain::format
