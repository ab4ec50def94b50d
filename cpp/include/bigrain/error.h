// SPDX-License-Identifier: Apache-2.0
// The one exception type of the core. A kind decides which Python exception it becomes; the
// message names the argument or file, what was found, what was expected and what to do.
#pragma once

#include <stdexcept>
#include <string>

namespace bigrain {

enum class ErrorKind {
  invalid_argument,  // ValueError
  corrupt,           // CorruptIndexError
  io,                // OSError with errno and path
  not_supported,     // NotImplementedError
  cancelled,         // KeyboardInterrupt, or the exception that the progress callback raised
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}

  static Error io(int error_number, const std::string& path, const std::string& message) {
    Error error(ErrorKind::io, message);
    error.error_number_ = error_number;
    error.path_ = path;
    return error;
  }
  static Error invalid(const std::string& message) {
    return Error(ErrorKind::invalid_argument, message);
  }
  static Error corrupt(const std::string& message) { return Error(ErrorKind::corrupt, message); }
  static Error not_supported(const std::string& message) {
    return Error(ErrorKind::not_supported, message);
  }
  static Error cancelled() { return Error(ErrorKind::cancelled, "cancelled"); }

  ErrorKind kind() const { return kind_; }
  int error_number() const { return error_number_; }  // errno; 0 unless kind() is io
  const std::string& path() const { return path_; }   // empty unless kind() is io

 private:
  ErrorKind kind_;
  int error_number_ = 0;
  std::string path_;
};

}  // namespace bigrain
