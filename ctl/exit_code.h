#pragma once

namespace supervisor {

// What supervisorctl ends with; scripts rely on the numbers.
enum class ExitCode {
  kDone = 0,
  kFailed = 1,      // the operation failed
  kUsage = 2,       // usage or configuration error
  kNotRunning = 3,  // something asked for is not running or not healthy
  kNoSuchService = 4,
  kUnreachable = 5,  // no daemon answers at the socket
  kNotPermitted = 6,
  kTimedOut = 7,
};

}  // namespace supervisor
