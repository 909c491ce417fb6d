#pragma once

#include <optional>
#include <string>

namespace supervisor {

// How a process ended, as wait(2) reports it: a type that can say itself.
class WaitStatus {
 public:
  static WaitStatus Exited(int code) { return WaitStatus(Kind::kExited, code, false); }
  static WaitStatus Signaled(int signal, bool core_dumped = false) {
    return WaitStatus(Kind::kSignaled, signal, core_dumped);
  }
  // The process is gone and nobody could reap it (guardian and daemon were both killed).
  static WaitStatus Unknown() { return WaitStatus(Kind::kUnknown, 0, false); }
  // From wait(2)'s status word, which is what the guardian passes on.
  static WaitStatus FromRaw(int status);

  std::optional<int> exit_code() const { return kind_ == Kind::kExited ? std::optional<int>(value_) : std::nullopt; }
  std::optional<int> signal() const { return kind_ == Kind::kSignaled ? std::optional<int>(value_) : std::nullopt; }
  bool core_dumped() const { return core_dumped_; }

  // "exited with code 1", "killed by SIGSEGV (core dumped)", "ended, exit code unknown"
  std::string ToString() const;

  bool operator==(const WaitStatus&) const = default;

 private:
  enum class Kind { kExited, kSignaled, kUnknown };
  WaitStatus(Kind kind, int value, bool core_dumped) : kind_(kind), value_(value), core_dumped_(core_dumped) {}
  Kind kind_;
  int value_;
  bool core_dumped_;
};

}  // namespace supervisor
