#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace supervisor {

// global.socket_group by its number; none for an empty name. May block: it asks the system's user database.
absl::StatusOr<std::optional<gid_t>> SocketGroup(const std::string& name);

}  // namespace supervisor
