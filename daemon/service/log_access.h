#pragma once

#include "absl/status/statusor.h"
#include "daemon/config/config.h"
#include "daemon/logs/log_pump.h"

namespace supervisor {

// Whether the system's user database has to be asked for it, which may block.
bool NeedsLookUp(const LogsConfig& logs);

// What logs.owner, logs.group and logs.mode come to. Asks the system's databases (NSS): may block, so not on the loop
// thread where NeedsLookUp. NotFound names the key and the account.
absl::StatusOr<WantedAccess> ResolveLogAccess(const LogsConfig& logs);

}  // namespace supervisor
