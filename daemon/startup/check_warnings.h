#pragma once

#include <vector>

#include "daemon/config/load.h"

namespace supervisor {

// What of a valid configuration would keep its services from running on this machine as it is now: commands that are
// not there or cannot be executed, directories, users, groups, environment files, limits above what can be set, and
// dependencies that never complete. Each with the place of its key. Only warnings: a pre_start hook may make a
// directory, and the file may be meant for another machine. What this user may not look at is not judged.
//
// REQUIRES: `loaded` has a configuration. Blocks on disks and name services; any thread.
std::vector<ConfigError> FindWarnings(const LoadedConfig& loaded);

}  // namespace supervisor
