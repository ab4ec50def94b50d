// SPDX-License-Identifier: Apache-2.0
// Replaces a file so that, whatever happens meanwhile, its path names either the complete old or
// the complete new file.
#pragma once

#include <functional>
#include <string>

#include "io/file.h"
#include "io/file_system.h"

namespace bigrain::io {

// Calls write() on a new file in the directory of `path`, flushes it, gives it the name and flushes
// the directory. If anything throws, `path` still names the old file and the new one is removed; a
// killed process leaves at most one such file, ".<name>.bigrain-<pid>-<random>", which the next
// save to the same path removes.
//
// Symbolic links are followed: the file they lead to is replaced. Whoever has the old file open
// keeps reading the old one. The permissions of an old file are asked for again, under the umask.
void atomic_save(FileSystem& files, const std::string& path,
                 const std::function<void(File&)>& write);

}  // namespace bigrain::io
