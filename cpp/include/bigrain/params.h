// SPDX-License-Identifier: Apache-2.0
// Every parameter with its default and its bounds. Symbols as in the papers: R is the maximum
// out-degree, L the width of a search, alpha the factor of RobustPrune (DiskANN, NeurIPS 2019).
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "bigrain/types.h"

namespace bigrain {

inline constexpr uint32_t kMinDim = 1, kMaxDim = 65'536;
// Pool keys keep one flag bit beside a 31-bit id (search/pool.h).
inline constexpr uint64_t kMaxPoints = (uint64_t{1} << 31) - 1;
inline constexpr uint32_t kMinDegree = 2, kMaxDegree = 512;
// R is 48 where codes are two cache lines that no projection shortened: such data, word vectors
// say, has no few directions to go by, and more edges per hop pay. Else 32 (bench/LOG.md).
inline constexpr uint32_t kDefaultDegree = 32, kDefaultDegreeShort = 48, kShortCodeBytes = 128;
inline constexpr uint32_t kDefaultBuildWidth = 128, kMinBuildWidth = 1, kMaxBuildWidth = 4'096;
inline constexpr float kDefaultAlpha = 1.2f, kDefaultAlphaIp = 0.9f, kMinAlpha = 0.5f,
                       kMaxAlpha = 4.0f, kMaxAlphaIp = 1.0f;
inline constexpr uint32_t kDefaultWidth = 64, kMinWidth = 1, kMaxWidth = 1u << 20;
inline constexpr uint32_t kDefaultK = 10, kMinK = 1, kMaxK = 1u << 20;
inline constexpr uint32_t kMaxThreads = 10'000;

// How the graph is made. Both make the same kind of graph for the same parameters; which is faster,
// and better, depends on the number of points (bench/LOG.md, "partitioned").
enum class Builder : uint8_t {
  automatic,    // partitioned from kPartitionedFrom points and kPartitionedFromDim dimensions on
  vamana,       // every point searches the graph of those before it
  partitioned,  // points meet in small neighbourhoods; no searches
};
inline constexpr uint64_t kPartitionedFrom = 4'096;
// On a line or circle leaves hold few edges between them (bench/LOG.md, "copies").
inline constexpr uint64_t kPartitionedFromDim = 3;

// A graph made elsewhere, borrowed: per vector a row of `degree` distinct ids, of which the last
// are the vector's own where it has fewer neighbours.
struct GraphView {
  const uint32_t* rows = nullptr;
  uint32_t degree = 0;                 // kMinDegree to kMaxDegree
  std::optional<uint32_t> entry = {};  // where searches start; none: at the medoid
};

struct BuildParams {
  Metric metric = Metric::l2;
  Builder builder = Builder::automatic;
  uint32_t degree = 0;                        // R; 0: kDefaultDegree or kDefaultDegreeShort
  uint32_t build_width = kDefaultBuildWidth;  // L, how far candidates are sought
  float alpha = 0;                            // 0: the metric's default
  uint32_t code_dim = 0;                      // dimensions of the codes; 0: chosen by measurement
  uint32_t pq_bytes = 0;                      // of a PQ code, for SSDs; 0: not made for SSDs
  MatrixView train_queries = {};              // what searches will ask, for that choice; or no rows
  uint64_t seed = 0;                          // insertion order and rotation
  uint32_t threads = 0;                       // 0: every usable core
  // Taken as it is, where it has rows, instead of building one: validate() tells whether all of it
  // can be reached. Its rows say R; builder is not used, build_width and alpha are only stored.
  GraphView graph = {};
};

// What a walk reads of each vertex that it expands.
enum class Layout : uint8_t {
  compact,  // its row, then the codes of all unseen neighbours
  fast,     // one bit per dimension of its neighbours, then the codes of those that look near
};

struct SearchParams {
  uint32_t k = kDefaultK;
  uint32_t width = 0;   // W, the window that must be expanded; 0: max(kDefaultWidth, k)
  uint32_t rerank = 0;  // C, candidates scored with full vectors; 0: see default_rerank
  // A walk also ends once the next candidate is farther than the k-th nearest found times 1 + slack
  // (Euclidean distances, of normalised vectors under cosine). Infinity: it does not. Not for ip.
  float slack = std::numeric_limits<float>::infinity();
  uint32_t threads = 0;  // 0: every usable core
  // With rows on disk: take them in the order in which they were asked for, not in that of their
  // arrival, so that answers do not depend on the device.
  bool deterministic = false;
};

// The whole window, so that a wide search is exact whatever the codes lose; in narrow ones k / 2
// more than k, at least 8, which is more than 8-bit codes were seen to need (bench/LOG.md).
constexpr uint32_t default_rerank(uint32_t k, uint32_t width) {
  const uint32_t least = k + (k / 2 > 8 ? k / 2 : 8);
  return width > least ? width : least;
}

// Budgets with a meaning of their own, beside numbers of bytes.
inline constexpr uint64_t kAllMemory = UINT64_MAX;  // no limit: everything is in memory
inline constexpr uint64_t kLeastMemory = 0;         // as little as searches can do with

// How much of a file is checked before it is used.
enum class Verify : uint8_t {
  full,    // header, layout, every checksum, every id and float
  header,  // header and layout; ids are still checked at each use
  off,     // header and layout without the header's checksum
};

struct OpenParams {
  // header, where not everything is in memory, checks what stays there; pages are checked each time
  // that they are read.
  Verify verify = Verify::full;
  uint64_t memory = kAllMemory;  // bytes for the index, without what searches use meanwhile
  std::string io = "auto";       // how pages are read: io/io_choice.h
};

}  // namespace bigrain
