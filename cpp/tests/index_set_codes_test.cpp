// SPDX-License-Identifier: Apache-2.0
// Index::set_codes: what it keeps, what it makes, and that a call which fails changes nothing.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "bigrain/index.h"
#include "check.h"
#include "format/parts.h"
#include "graph_fixture.h"
#include "util/monitor.h"

namespace bigrain {
namespace {

using namespace check;

constexpr size_t kCount = 2'000;
constexpr uint32_t kDim = 24, kBytes = 5, kColumns = 16;

Index built(uint32_t pq_bytes, bool ids = false, Dtype dtype = Dtype::f32) {
  std::vector<float> x = random_vectors(kCount, kDim, kDim);
  std::vector<int8_t> bytes(x.size());
  for (size_t i = 0; i < x.size(); ++i) bytes[i] = static_cast<int8_t>(100 * x[i]);
  std::vector<int64_t> names(kCount);
  for (size_t i = 0; i < kCount; ++i) names[i] = static_cast<int64_t>((kCount - i) * 3);
  BuildParams params;
  params.degree = 12;
  params.code_dim = kDim;
  params.pq_bytes = pq_bytes;
  params.threads = 1;
  Monitor monitor;
  const void* data = dtype == Dtype::f32 ? static_cast<const void*>(x.data()) : bytes.data();
  return Index::build({data, kCount, kDim, dtype}, ids ? names.data() : nullptr, params, monitor);
}

// The first kColumns axes, and any centroids.
struct Arrays {
  std::vector<float> rotation = std::vector<float>(kDim * kColumns);
  std::vector<float> books = random_vectors(256, kColumns, 9);
  std::vector<uint8_t> codes = std::vector<uint8_t>(kCount * kBytes);

  Arrays() {
    for (size_t j = 0; j < kColumns; ++j) rotation[j * kColumns + j] = 1;
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i * 37);
  }
  GivenCodes given(bool with_codes = false) const {
    return {{rotation.data(), kDim, kColumns, Dtype::f32},
            {books.data(), 1, books.size(), Dtype::f32},
            kBytes,
            with_codes ? codes.data() : nullptr};
  }
};

void set(Index& index, const GivenCodes& given, uint32_t threads = 1) {
  Monitor monitor;
  index.set_codes(given, threads, monitor);
}

TEST(an_index_made_for_disks_afterwards_is_one_made_so) {
  const Arrays arrays;
  for (const bool ids : {false, true}) {
    for (const Dtype dtype : {Dtype::f32, Dtype::i8}) {
      Index one = built(0, ids, dtype), two = built(7, ids, dtype);
      set(one, arrays.given());
      set(two, arrays.given(), 3);
      CHECK(one.to_bytes() == two.to_bytes());
      set(one, arrays.given());
      CHECK(one.to_bytes() == two.to_bytes());
      CHECK_EQ(one.parts().meta.pq_bytes, kBytes);
      CHECK_EQ(one.parts().hot.size(), kCount / 8 * sizeof(uint32_t));
    }
  }
}

TEST(codes_that_are_given_go_with_their_points) {
  const Arrays arrays;
  Index index = built(0);
  set(index, arrays.given(true));
  const std::span<const int64_t> ids = index.parts().ids.as<int64_t>();
  CHECK_EQ(ids.size(), kCount);
  CHECK(!std::is_sorted(ids.begin(), ids.end()));
  for (size_t i = 0; i < kCount; ++i) {
    CHECK(std::memcmp(index.parts().pq_codes.data() + i * kBytes,
                      arrays.codes.data() + static_cast<size_t>(ids[i]) * kBytes, kBytes) == 0);
  }
  Monitor monitor;
  const Index again = Index::from_bytes(index.to_bytes(), Verify::full, monitor);
  CHECK(again.to_bytes() == index.to_bytes());
  CHECK(index.validate(monitor).problems.empty());
}

TEST(the_layout_stays) {
  const Arrays arrays;
  Index fast = built(0), compact = built(0);
  Monitor monitor;
  fast.set_layout(Layout::fast, 1, monitor);
  set(fast, arrays.given());
  set(compact, arrays.given());
  CHECK(fast.layout() == Layout::fast);
  compact.set_layout(Layout::fast, 1, monitor);
  const Buffer &a = fast.parts().blocks, &b = compact.parts().blocks;
  CHECK_EQ(a.size(), b.size());
  CHECK(std::memcmp(a.data(), b.data(), a.size()) == 0);
}

// Stopped at every poll that there is, it leaves the index as it was.
TEST(all_or_nothing) {
  const Arrays arrays;
  for (const bool fast : {false, true}) {
    Index index = built(0);
    Monitor unwatched;
    if (fast) index.set_layout(Layout::fast, 1, unwatched);
    const std::vector<std::byte> before = index.to_bytes();
    const size_t blocks = index.parts().blocks.size();
    for (int polls = 0;; ++polls) {
      int left = polls;
      Monitor monitor([&](uint64_t, uint64_t) { return left-- > 0; });
      try {
        index.set_codes(arrays.given(true), 1, monitor);
        CHECK(polls > 1);
        break;
      } catch (const Error& error) {
        CHECK(error.kind() == ErrorKind::cancelled);
      }
      CHECK(index.to_bytes() == before);
      CHECK_EQ(index.parts().blocks.size(), blocks);
    }
    CHECK(index.to_bytes() != before);
  }
}

TEST(arrays_that_do_not_fit) {
  const Arrays arrays;
  Index index = built(0);
  const std::vector<std::byte> before = index.to_bytes();
  const auto refused = [&](const GivenCodes& given) {
    CHECK_THROWS(set(index, given), ErrorKind::invalid_argument);
    CHECK(index.to_bytes() == before);
  };
  GivenCodes given = arrays.given();
  given.rotation.rows = kDim - 1;
  refused(given);
  given = arrays.given();
  given.rotation.dim = kDim + 1;
  refused(given);
  for (const uint32_t bytes : {0u, kColumns + 1}) {
    given = arrays.given();
    given.bytes = bytes;
    refused(given);
  }
  given = arrays.given();
  given.codebooks.dim -= 1;
  refused(given);
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e19f}) {
    Arrays wrong;
    wrong.books[7] = value;
    refused(wrong.given());
    wrong = {};
    wrong.rotation[3] = value;
    refused(wrong.given());
  }
  Monitor monitor;
  CHECK_THROWS(index.set_codes(arrays.given(), kMaxThreads + 1, monitor),
               ErrorKind::invalid_argument);
  Index none = Index::build({nullptr, 0, kDim, Dtype::f32}, nullptr, {}, monitor);
  CHECK_THROWS(set(none, arrays.given()), ErrorKind::invalid_argument);
}

}  // namespace
}  // namespace bigrain
