#include "daemon/process/wait_status.h"

#include <fmt/format.h>
#include <sys/wait.h>

#include "common/signal_names.h"

namespace supervisor {

WaitStatus WaitStatus::FromRaw(int status) {
  if (WIFSIGNALED(status)) {
    return Signaled(WTERMSIG(status), WCOREDUMP(status));
  }
  return WIFEXITED(status) ? Exited(WEXITSTATUS(status)) : Unknown();
}

std::string WaitStatus::ToString() const {
  switch (kind_) {
    case Kind::kExited:
      return fmt::format("exited with code {}", value_);
    case Kind::kSignaled:
      return fmt::format("killed by {}{}", SignalName(value_), core_dumped_ ? " (core dumped)" : "");
    case Kind::kUnknown:
      return "ended, exit code unknown";
  }
  return "ended";
}

}  // namespace supervisor
