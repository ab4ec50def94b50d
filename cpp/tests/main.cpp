// SPDX-License-Identifier: Apache-2.0
// Runs every test of the executable, or those whose name contains the first argument.
#include <cstdio>
#include <exception>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "check.h"

namespace bigrain::check {

namespace {

struct Test {
  const char* name;
  void (*body)();
};

// Function-local, so that it exists before the first registration in any translation unit.
std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

std::mutex failure_mutex;
int failures = 0;

int failure_count() {
  const std::lock_guard lock(failure_mutex);
  return failures;
}

bool run_test(const Test& test) {
  const int before = failure_count();
  try {
    test.body();
  } catch (const std::exception& error) {
    fail(test.name, 0, std::string("left by an exception: ") + error.what());
  }
  const bool passed = failure_count() == before;
  if (!passed) std::printf("FAILED %s\n", test.name);
  return passed;
}

}  // namespace

void add_test(const char* name, void (*body)()) { tests().push_back({name, body}); }

void fail(const char* file, int line, const std::string& message) {
  const std::lock_guard lock(failure_mutex);
  ++failures;
  std::printf("%s:%d: %s\n", file, line, message.c_str());
}

}  // namespace bigrain::check

int main(int argc, char** argv) {
  using namespace bigrain::check;
  const std::string_view filter = argc > 1 ? argv[1] : "";
  int passed = 0;
  int failed = 0;
  for (const Test& test : tests()) {
    if (std::string_view(test.name).find(filter) == std::string_view::npos) continue;
    ++(run_test(test) ? passed : failed);
    std::fflush(stdout);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  if (passed + failed == 0) std::printf("no test's name contains \"%s\"\n", filter.data());
  return failed == 0 && passed > 0 ? 0 : 1;
}
