#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "common/file_trust.h"
#include "daemon/process/spawn.h"

namespace supervisor {

// Returns the file that execvp(3) would run for `command` with this PATH; `command` itself where it holds a slash, or
// where nothing is found. Blocks on the disk.
std::string FindProgram(const std::string& command, std::string_view path);

// Looks at the program of a hook, a check, a stop command or a notification that is about to run as this process's own
// user: where another user could have written or could exchange it, he would run what he likes as that one, and the
// status says so. OK for a program that runs as another user, and for one that is not there, which execve(2) tells.
// Blocks on the disk.
//
// Nobody but trusted users can exchange what was found to be trusted, so it may be run by its path.
absl::Status CheckProgramTrust(const SpawnRequest& request, FileTrust trust = ProcessFileTrust());

}  // namespace supervisor
