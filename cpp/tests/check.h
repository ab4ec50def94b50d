// SPDX-License-Identifier: Apache-2.0
// The C++ tests' whole framework. A failed check prints file, line and values, is counted, and the
// test goes on; an exception that leaves a test fails it. Checks may run on any thread.
#pragma once

#include <cmath>
#include <concepts>
#include <exception>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>

#include "bigrain/error.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define BIGRAIN_UNDER_SANITIZER 1
#else
#define BIGRAIN_UNDER_SANITIZER 0
#endif

namespace bigrain::check {

void add_test(const char* name, void (*body)());
void fail(const char* file, int line, const std::string& message);

struct Registration {
  Registration(const char* name, void (*body)()) { add_test(name, body); }
};

// char types are left out: std::cmp_equal refuses them, and so do comparisons worth making.
template <class T>
concept PlainInteger = std::integral<T> && !std::same_as<T, bool> && !std::same_as<T, char>;

template <class A, class B>
bool equal(const A& a, const B& b) {
  if constexpr (PlainInteger<A> && PlainInteger<B>) {
    return std::cmp_equal(a, b);
  } else {
    return a == b;
  }
}

template <class T>
std::string show(const T& value) {
  std::ostringstream out;
  out.precision(9);
  if constexpr (std::is_enum_v<T>) {
    out << static_cast<long long>(value);
  } else if constexpr (std::integral<T> && sizeof(T) == 1 && !std::same_as<T, bool>) {
    out << static_cast<int>(value);
  } else if constexpr (requires { out << value; }) {
    out << value;
  } else {
    out << "(a value that cannot be printed)";
  }
  return out.str();
}

inline const char* show_kind(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::invalid_argument:
      return "invalid_argument";
    case ErrorKind::corrupt:
      return "corrupt";
    case ErrorKind::io:
      return "io";
    case ErrorKind::not_supported:
      return "not_supported";
    case ErrorKind::cancelled:
      return "cancelled";
  }
  return "unknown";
}

template <class A, class B>
void expect_equal(const char* file, int line, const char* text, const A& a, const B& b) {
  if (!equal(a, b)) fail(file, line, std::string(text) + ": " + show(a) + " != " + show(b));
}

// NaN is near nothing; equal infinities are near each other.
inline void expect_near(const char* file, int line, const char* text, double a, double b,
                        double tolerance) {
  if (a == b || std::abs(a - b) <= tolerance) return;
  fail(file, line,
       std::string(text) + ": " + show(a) + " and " + show(b) + " differ by " +
           show(std::abs(a - b)) + ", more than " + show(tolerance));
}

template <class Body>
void expect_error(const char* file, int line, const char* text, ErrorKind kind, Body&& body) {
  const std::string wanted = std::string(text) + ": expected Error " + show_kind(kind);
  try {
    body();
    fail(file, line, wanted + ", nothing was thrown");
  } catch (const Error& error) {
    if (error.kind() == kind) return;
    fail(file, line, wanted + ", got " + show_kind(error.kind()) + ": " + error.what());
  } catch (const std::exception& error) {
    fail(file, line, wanted + ", got another exception: " + error.what());
  }
}

}  // namespace bigrain::check

#define TEST(name)                                                                      \
  static void test_##name();                                                            \
  static const ::bigrain::check::Registration registration_##name(#name, &test_##name); \
  static void test_##name()

#define CHECK(condition)                                                      \
  do {                                                                        \
    if (!(condition)) ::bigrain::check::fail(__FILE__, __LINE__, #condition); \
  } while (false)

#define CHECK_EQ(a, b) ::bigrain::check::expect_equal(__FILE__, __LINE__, #a " == " #b, (a), (b))

#define CHECK_NEAR(a, b, tolerance)                                                      \
  ::bigrain::check::expect_near(__FILE__, __LINE__, #a " ~ " #b, static_cast<double>(a), \
                                static_cast<double>(b), static_cast<double>(tolerance))

// CHECK_THROWS(parse(bytes), ErrorKind::corrupt)
#define CHECK_THROWS(expression, kind)                                    \
  ::bigrain::check::expect_error(__FILE__, __LINE__, #expression, (kind), \
                                 [&] { (void)(expression); })
