// SPDX-License-Identifier: Apache-2.0
#include "util/cpu_quota.h"

#include <stdlib.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>

#include "check.h"

using namespace bigrain;
namespace fs = std::filesystem;

namespace {

// A made-up control group tree that goes away with the test.
class Tree {
 public:
  Tree() {
    std::string name = (fs::temp_directory_path() / "bigrain_quota_XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw fs::filesystem_error("mkdtemp", {});
    root_ = name;
  }
  ~Tree() { fs::remove_all(root_); }
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;

  void write(const std::string& path, const std::string& text) const {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  double quota() const { return cpu_quota((root_ / "list").string(), (root_ / "mount").string()); }

 private:
  fs::path root_;
};

}  // namespace

TEST(no_groups_no_quota) {
  const Tree tree;
  CHECK(std::isinf(tree.quota()));
  tree.write("list", "garbage\n\n::\n1:cpu\n");
  CHECK(std::isinf(tree.quota()));
}

TEST(version_2_takes_the_smallest_along_the_path) {
  const Tree tree;
  tree.write("list", "0::/slice/box\n");
  tree.write("mount/slice/box/cpu.max", "max 100000\n");
  CHECK(std::isinf(tree.quota()));
  tree.write("mount/slice/cpu.max", "150000 100000\n");
  CHECK_EQ(tree.quota(), 1.5);
  tree.write("mount/slice/box/cpu.max", "50000 100000\n");
  CHECK_EQ(tree.quota(), 0.5);
}

TEST(version_2_in_a_container_sees_the_mount_root) {
  const Tree tree;
  tree.write("list", "0::/not/below/the/mount\n");
  tree.write("mount/cpu.max", "300000 100000\n");
  CHECK_EQ(tree.quota(), 3.0);
}

TEST(version_1_reads_quota_and_period) {
  const Tree tree;
  tree.write("list", "3:cpuset:/other\n2:cpu,cpuacct:/box\n");
  tree.write("mount/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  tree.write("mount/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  CHECK(std::isinf(tree.quota()));
  tree.write("mount/cpu/box/cpu.cfs_quota_us", "250000\n");
  tree.write("mount/cpu/box/cpu.cfs_period_us", "100000\n");
  CHECK_EQ(tree.quota(), 2.5);
}
