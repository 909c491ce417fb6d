#pragma once

#include "common/paths.h"

namespace supervisor {

// What `supervisord --stop` does about a supervisor whose guardian and daemon were killed. The keeper of its services'
// output (guardian/keeper.h) is ended, and the bytes that are lost with it are told. Services that still run are told
// as well and left alone, the keeper with them: only a supervisor can stop them in order. Returns the exit code: 0
// where nothing is left, 1 where something is. Prints to stdout and stderr.
int EndLeftovers(const RuntimePaths& paths);

}  // namespace supervisor
