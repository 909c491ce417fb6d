#pragma once

#include <string>
#include <vector>

#include "daemon/startup/options.h"

namespace supervisor {

// How our own processes exec each other.

// For a guardian or a daemon (`role`): what both are told.
std::vector<std::string> InternalArguments(const char* role, const DaemonOptions& options);

// For execv(2); points into `arguments`.
std::vector<char*> AsArgv(std::vector<std::string>& arguments);

// Of -1 nothing.
void KeepOverExec(int fd);

}  // namespace supervisor
