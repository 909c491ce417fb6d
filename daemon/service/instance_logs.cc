// Instance: what its configuration says of its logs, and a reload changes.

#include <string>
#include <utility>

#include "common/diag_log.h"
#include "daemon/service/instance.h"
#include "daemon/service/log_access.h"

namespace supervisor {

// Everything holds from now on but where stderr goes, which the next start decides.
void Instance::UpdateLogs() {
  const auto reopen = [this] {
    context_.logs.OpenAsync(stdout_stream(), StreamOptions(false), [](const absl::StatusOr<UniqueFd>&) {});
    if (captures_stderr_) {
      context_.logs.OpenAsync(stderr_stream(), StreamOptions(true), [](const absl::StatusOr<UniqueFd>&) {});
    }
  };
  if (!NeedsLookUp(config_.logs)) {
    log_access_ = {.mode = config_.logs.mode};
    reopen();
    return;
  }
  context_.lookups.Ask<WantedAccess>(
      alive_, [logs = config_.logs] { return ResolveLogAccess(logs); },
      [this, reopen, logs = config_.logs](absl::StatusOr<WantedAccess> access) {
        if (!(logs == config_.logs)) {
          return;  // another reload came meanwhile, and asks for itself
        }
        if (access.ok()) {
          log_access_ = *access;
        } else {
          LogWarning("owner and group of the log files stay as they are",
                     {{"service", id_}, {"error", std::string(access.status().message())}});
        }
        reopen();
      });
}

}  // namespace supervisor
