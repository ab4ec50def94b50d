// SPDX-License-Identifier: Apache-2.0
// What must hold inside the sections, beyond their sizes. A checksum catches accidents; these
// checks catch files whose checksums are right and whose content is not.
#pragma once

#include "format/layout.h"
#include "format/parts.h"
#include "util/monitor.h"

namespace bigrain::format {

// Throws Error(corrupt) naming the section, the place and what was expected there. The sizes of the
// arrays agree with `parts.meta`. Polls the monitor; single-threaded.
void check_section(const IndexParts& parts, SectionKind kind, Monitor& monitor);

// Every section.
void check_contents(const IndexParts& parts, Monitor& monitor);

}  // namespace bigrain::format
