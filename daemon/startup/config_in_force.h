#pragma once

#include <string>
#include <vector>

#include "daemon/config/load.h"
#include "daemon/startup/options.h"

namespace supervisor {

// What the daemon before this one had in force, where it died or made room; else what the files say. Somebody may have
// changed them since, or be in the midst of it: that is for a reload to apply. `remarks` are for the log, once there is
// one.
LoadedConfig LoadConfigInForce(const DaemonOptions& options, std::vector<std::string>& remarks);

}  // namespace supervisor
