// SPDX-License-Identifier: Apache-2.0
// The choice of a table, and BIGRAIN_SIMD. The variable is read once per process, so every case
// runs in a child of its own.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "check.h"
#include "simd_common.h"

namespace bigrain::simd {
namespace {

// Exit status of `body` in a child that has BIGRAIN_SIMD set (or unset).
template <class Body>
int in_child(const char* variable, Body body) {
  const pid_t child = fork();
  if (child == 0) {
    if (variable) {
      setenv("BIGRAIN_SIMD", variable, 1);
    } else {
      unsetenv("BIGRAIN_SIMD");
    }
    _exit(body() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

TEST(tables_are_complete) {
  for (const NamedTable& table : tables_here()) {
    const Kernels& kernels = *table.kernels;
    for (const auto& of_metric : kernels.distance)
      for (const DistanceFn distance : of_metric) CHECK(distance != nullptr);
    CHECK(kernels.score_codes != nullptr);
    CHECK(kernels.score_codes4 != nullptr);
    CHECK(kernels.hadamard != nullptr);
    CHECK(kernels.gemm_tile != nullptr);
    CHECK(kernels.gemm_tile_rows > 0);
    CHECK(kernels.gemm_tile_cols > 0);
  }
}

TEST(scalar_is_always_there) {
  const Kernels* scalar = kernels_for(Isa::scalar);
  CHECK(scalar != nullptr);
  CHECK_EQ(std::string(scalar->name), "scalar");
}

TEST(best_table_is_the_default) {
  const std::string best = [] {
    const Kernels* last = nullptr;
    for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512, Isa::neon})
      if (kernels_for(isa)) last = kernels_for(isa);
    return std::string(last->name);
  }();
  for (const char* variable : {static_cast<const char*>(nullptr), ""})
    CHECK_EQ(in_child(variable, [&] { return active_kernels().name == best; }), 0);
}

TEST(variable_names_a_table) {
  for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512, Isa::neon}) {
    const Kernels* kernels = kernels_for(isa);
    if (kernels == nullptr) continue;
    CHECK_EQ(in_child(kernels->name, [&] { return &active_kernels() == kernels; }), 0);
  }
}

TEST(unknown_and_unsupported_names_are_refused) {
#if defined(__x86_64__)
  constexpr const char* kForeign = "neon";
#else
  constexpr const char* kForeign = "avx2";
#endif
  for (const char* variable : {"sse9", kForeign, "AVX2", "scalar "}) {
    const auto refused = [&] {
      try {
        active_kernels();
      } catch (const Error& error) {
        const std::string message = error.what();
        return error.kind() == ErrorKind::invalid_argument &&
               message.find("BIGRAIN_SIMD") != std::string::npos &&
               message.find(variable) != std::string::npos &&
               message.find("scalar") != std::string::npos;
      }
      return false;
    };
    CHECK_EQ(in_child(variable, refused), 0);
  }
}

}  // namespace
}  // namespace bigrain::simd
