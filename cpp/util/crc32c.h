// SPDX-License-Identifier: Apache-2.0
// CRC-32C (Castagnoli), the checksum of index files.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bigrain {

// The checksum of `bytes` bytes, following earlier data whose checksum is `before`:
// crc32c(b, crc32c(a)) is the checksum of a and b joined. "123456789" gives 0xE3069283.
uint32_t crc32c(const void* data, size_t bytes, uint32_t before = 0);

// The table-driven form that machines without a CRC instruction use. For tests.
uint32_t crc32c_portable(const void* data, size_t bytes, uint32_t before = 0);

}  // namespace bigrain
