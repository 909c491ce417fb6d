#include "daemon/startup/exit_report.h"

#include <unistd.h>

#include <cstdint>

#include "daemon/guardian/guardian.h"

namespace supervisor {

int TellExitCode(const DaemonOptions& options, int exit_code, bool has_guardian) {
  if (!has_guardian) {
    return exit_code;
  }
  const uint64_t told = static_cast<uint64_t>(exit_code) << kExitCodeShift;
  // Without a word of it the guardian ends with 1.
  static_cast<void>(options.ready_fd >= 0 && write(options.ready_fd, &told, sizeof(told)) < 0);
  return kExitOrderlyFailure;
}

}  // namespace supervisor
