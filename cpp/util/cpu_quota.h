// SPDX-License-Identifier: Apache-2.0
// How much processor time the control groups of this process allow (containers, batch systems).
#pragma once

#include <string>

namespace bigrain {

// The smallest quota, in cores, of this process's control group and those above it (versions 1 and
// 2); infinity where none is set. `list` is the kernel's list of groups (/proc/self/cgroup),
// `mount` where control groups are mounted (/sys/fs/cgroup).
double cpu_quota(const std::string& list, const std::string& mount);

}  // namespace bigrain
