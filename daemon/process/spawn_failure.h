#pragma once

#include <string>

#include "daemon/process/spawn.h"

namespace supervisor {

// The directories in which a command without a slash is looked for: those of the request's own environment.
std::string SearchPathOf(const SpawnRequest& request);

// What the step of this start was about, in words.
SpawnFailure DescribeFailure(SpawnFailure::Step step, int error, const SpawnRequest& request);

}  // namespace supervisor
