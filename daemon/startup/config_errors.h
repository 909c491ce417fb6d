#pragma once

#include <vector>

#include "daemon/config/load.h"

namespace supervisor {

// What is wrong with a configuration, to stderr: a line each.
void PrintConfigErrors(const std::vector<ConfigError>& errors);

// The same, and that this is why nothing was started.
void PrintNotStarted(const std::vector<ConfigError>& errors);

}  // namespace supervisor
