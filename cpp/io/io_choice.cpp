// SPDX-License-Identifier: Apache-2.0
#include "io/io_choice.h"

#include <array>
#include <charconv>
#include <cmath>
#include <string>
#include <system_error>
#include <utility>

#include "bigrain/error.h"

namespace bigrain::io {

namespace {

constexpr double kMaxLatencyUs = 10e6;  // ten seconds: a longer one is a slip of the pen
constexpr double kMaxIops = 1e9;
constexpr double kMaxThreads = 256;
constexpr double kMaxRate = 1;

[[noreturn]] void refuse(std::string_view text, const std::string& why) {
  throw Error::invalid("io='" + std::string(text) + "': " + why);
}

double number(std::string_view text, std::string_view name, std::string_view value, double most) {
  // Not std::from_chars for double: libc++ has it only since version 20.
  double parsed = 0, scale = 1;
  bool point = false, digits = false;
  for (const char c : value) {
    if (c == '.' && !point) {
      point = true;
    } else if (c >= '0' && c <= '9') {
      digits = true;
      parsed = parsed * 10 + (c - '0');
      scale *= point ? 10 : 1;
    } else {
      digits = false;
      break;
    }
  }
  parsed /= scale;
  if (!digits || parsed > most) {
    std::string limit = std::to_string(most);
    limit.erase(limit.find_last_not_of('0') + 1);
    if (limit.back() == '.') limit.pop_back();
    refuse(text, std::string(name) + "=" + std::string(value) + " must be a number from 0 to " +
                     limit + ", such as 0.01");
  }
  return parsed;
}

uint64_t seed_of(std::string_view text, std::string_view value) {
  uint64_t seed = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seed);
  if (error != std::errc() || end != value.data() + value.size()) {
    refuse(text, "seed=" + std::string(value) + " must be a whole number below 2^64");
  }
  return seed;
}

bool set_simulated(SimulatedDevice& device, std::string_view text, std::string_view name,
                   std::string_view value) {
  const auto rate = [&](double& to) {
    to = number(text, name, value, kMaxRate);
    return true;
  };
  if (name == "error_rate") return rate(device.error_rate);
  if (name == "short_rate") return rate(device.short_rate);
  if (name == "damage_rate") return rate(device.damage_rate);
  if (name == "latency_us") {
    device.latency_ns =
        static_cast<uint64_t>(std::llround(number(text, name, value, kMaxLatencyUs) * 1e3));
  } else if (name == "iops") {
    device.iops = static_cast<uint64_t>(std::llround(number(text, name, value, kMaxIops)));
  } else if (name == "seed") {
    device.seed = seed_of(text, value);
  } else if (name == "reorder") {
    device.reorder = number(text, name, value, 1) != 0;
  } else if (name == "clock") {
    if (value != "real" && value != "virtual") refuse(text, "clock must be 'real' or 'virtual'");
    device.real_time = value == "real";
  } else {
    return false;
  }
  return true;
}

void set(IoChoice& choice, std::string_view text, std::string_view name, std::string_view value) {
  const bool simulated = choice.backend == IoBackend::simulated;
  if (simulated && set_simulated(choice.device, text, name, value)) return;
  if (!simulated && name == "direct") {
    choice.direct = number(text, name, value, 1) != 0;
  } else if (!simulated && name == "threads" && choice.backend != IoBackend::uring) {
    choice.pread_threads = static_cast<uint32_t>(number(text, name, value, kMaxThreads));
  } else {
    refuse(text, "has no option " + std::string(name) + "; options are " +
                     (simulated ? "latency_us, iops, seed, error_rate, short_rate, damage_rate, "
                                  "reorder and clock"
                                : "direct, and threads of 'auto' and 'pread'"));
  }
}

}  // namespace

IoChoice parse_io_choice(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, IoBackend>, 4> kBackends = {
      {{"auto", IoBackend::automatic},
       {"uring", IoBackend::uring},
       {"pread", IoBackend::pread},
       {"simulated", IoBackend::simulated}}};
  IoChoice choice;
  const size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  bool known = false;
  for (const auto& [word, backend] : kBackends) {
    if (word != name) continue;
    choice.backend = backend;
    known = true;
  }
  if (!known) refuse(text, "must be 'auto', 'uring', 'pread' or 'simulated'");
  std::string_view rest = colon == std::string_view::npos ? "" : text.substr(colon + 1);
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    const std::string_view option = rest.substr(0, comma);
    const size_t equals = option.find('=');
    if (equals == std::string_view::npos) {
      refuse(text, std::string(option) + " must be of the form name=value");
    }
    set(choice, text, option.substr(0, equals), option.substr(equals + 1));
    rest = comma == std::string_view::npos ? "" : rest.substr(comma + 1);
  }
  return choice;
}

}  // namespace bigrain::io
