#include "daemon/startup/socket_group.h"

#include <fmt/format.h>

#include "daemon/process/spawn.h"

namespace supervisor {

absl::StatusOr<std::optional<gid_t>> SocketGroup(const std::string& name) {
  if (name.empty()) {
    return std::optional<gid_t>();
  }
  const absl::StatusOr<SpawnRequest::Credentials> credentials = LookUpCredentials("", name);
  if (!credentials.ok()) {
    return absl::NotFoundError(fmt::format("global.socket_group: {}", std::string(credentials.status().message())));
  }
  return std::optional<gid_t>(credentials->gid);
}

}  // namespace supervisor
