#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/paths.h"
#include "common/unique_fd.h"
#include "daemon/service/operations.h"

namespace supervisor {

// What an orderly end could not stop and has left running, a line each: "web: it cannot be stopped: SIGKILL to pid 7
// ...". It lies in a file beside the socket, for `supervisord --stop`: the daemon's exit code reaches its parent alone.

// Of those that were to be stopped.
std::vector<std::string> LeftBehindBy(const std::vector<ActionOutcome>& outcomes);

// For InstanceContext::discard_output: through the supervisor's keeper, see daemon/guardian/keeper.h.
std::function<void(UniqueFd)> DiscardThrough(int keeper_fd);

// Removes what an earlier end has left there where `lines` is empty.
void WriteLeftBehind(const RuntimePaths& paths, const std::vector<std::string>& lines);

// Reads it and removes it: told once.
std::vector<std::string> TakeLeftBehind(const RuntimePaths& paths);

}  // namespace supervisor
