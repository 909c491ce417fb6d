#include "daemon/service/log_access.h"

#include <fmt/format.h>

#include "daemon/process/spawn.h"

namespace supervisor {

bool NeedsLookUp(const LogsConfig& logs) { return !logs.owner.empty() || !logs.group.empty(); }

absl::StatusOr<WantedAccess> ResolveLogAccess(const LogsConfig& logs) {
  WantedAccess access{.mode = logs.mode};
  const auto failed = [](const char* key, const absl::Status& status) {
    return absl::Status(status.code(), fmt::format("{}: {}", key, std::string(status.message())));
  };
  if (!logs.owner.empty()) {
    const auto found = LookUpCredentials(logs.owner, "");
    if (!found.ok()) {
      return failed("logs.owner", found.status());
    }
    access.uid = found->uid;
  }
  if (!logs.group.empty()) {
    const auto found = LookUpCredentials("", logs.group);
    if (!found.ok()) {
      return failed("logs.group", found.status());
    }
    access.gid = found->gid;
  }
  return access;
}

}  // namespace supervisor
