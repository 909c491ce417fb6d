#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace supervisor {

// A place that lines of logs are forwarded to. One thread, which may wait; never the loop's or the pump's.
class ForwardSink {
 public:
  enum class Result {
    kSent,
    kFull,     // nothing, or a part, was taken: the same line has to come again when it takes more
    kTrouble,  // it does not work now: see trouble(). The same line has to come again, later
  };
  virtual ~ForwardSink() = default;

  // A line without its end, of the service `name`, written at `time_ms` (milliseconds since the epoch).
  virtual Result Send(const std::string& name, std::string_view line, int64_t time_ms) = 0;
  // Waits until it may take more, at most `timeout_ms` milliseconds, or until `wake_fd` is readable.
  virtual void Wait(int wake_fd, int timeout_ms) = 0;
  // A part of a line has been taken, and its rest not.
  virtual bool IsWithinLine() const = 0;
  // Ends such a line, of an earlier process, before the next one.
  virtual void EndLineFirst() = 0;
  // The line that was not taken whole does not come again.
  virtual void Abandon() = 0;
  virtual const std::string& trouble() const = 0;
  // Longer lines come in pieces.
  virtual size_t longest_line() const = 0;
};

// This process's standard output. FailedPrecondition where that is /dev/null: nobody would see it.
//
// It is shared with others, who may have it full: a pipe or a terminal is opened once more for this process
// (/proc/self/fd/1, proc(5)), non-blocking, and a socket is written to with MSG_DONTWAIT.
absl::StatusOr<std::unique_ptr<ForwardSink>> MakeStdoutSink(int fd);

// The system's log: /dev/log as syslog(3) writes to it, RFC 3164, facility daemon. `path` is for tests.
std::unique_ptr<ForwardSink> MakeSyslogSink(const std::string& path);

}  // namespace supervisor
