// SPDX-License-Identifier: Apache-2.0
// Linux, Documentation/admin-guide/cgroup-v2.rst ("cpu.max") and scheduler/sched-bwc.rst
// ("cpu.cfs_quota_us"). A group is bound by its own quota and by those of all its ancestors. Inside
// a container the listed path may not exist below the mount, but the mount's root is then the
// container's group: so every prefix of the path is tried, down to the empty one.
#include "util/cpu_quota.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>

namespace bigrain {

namespace {

constexpr double kNone = std::numeric_limits<double>::infinity();

// Version 2: "max 100000" or "50000 100000".
double quota_v2(const std::string& group) {
  std::ifstream file(group + "/cpu.max");
  double quota = 0, period = 0;
  if (!(file >> quota >> period) || quota <= 0 || period <= 0) return kNone;
  return quota / period;
}

// Version 1: two files; a quota of -1 means none.
double quota_v1(const std::string& group) {
  std::ifstream quota_file(group + "/cpu.cfs_quota_us"), period_file(group + "/cpu.cfs_period_us");
  double quota = 0, period = 0;
  if (!(quota_file >> quota) || !(period_file >> period)) return kNone;
  return quota > 0 && period > 0 ? quota / period : kNone;
}

double smallest_along(const std::string& mount, std::string path,
                      double (*quota)(const std::string&)) {
  double smallest = kNone;
  while (true) {
    smallest = std::min(smallest, quota(mount + path));
    if (path.empty()) return smallest;
    const size_t slash = path.rfind('/');
    path.resize(slash == std::string::npos ? 0 : slash);
  }
}

bool names_cpu(const std::string& controllers) {
  std::istringstream names(controllers);
  for (std::string name; std::getline(names, name, ',');) {
    if (name == "cpu") return true;
  }
  return false;
}

}  // namespace

double cpu_quota(const std::string& list, const std::string& mount) {
  double smallest = kNone;
  std::ifstream groups(list);
  // A line is "hierarchy:controllers:path"; version 2 has hierarchy 0 and no controllers.
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      smallest = std::min(smallest, smallest_along(mount, path, quota_v2));
    } else if (names_cpu(controllers)) {
      smallest = std::min(smallest, smallest_along(mount + "/" + controllers, path, quota_v1));
      smallest = std::min(smallest, smallest_along(mount + "/cpu", path, quota_v1));
    }
  }
  return smallest;
}

}  // namespace bigrain
