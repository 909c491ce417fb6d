#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "common/paths.h"
#include "daemon/startup/options.h"

namespace supervisor {

// Which daemon --status and --stop are about. That is the one on the socket that the configuration names. Where the
// file is broken, unreadable or gone, or names another socket by now, it is the daemon that was started with this file;
// its own arguments tell its socket. "It does not run" is said only where that is certain.
struct DaemonSearch {
  std::optional<pid_t> pid;  // to be signalled
  RuntimePaths paths;        // of the daemon that was found, else of the socket that was asked
  std::string remark;        // for stderr: why another socket than the file's is meant
  std::string trouble;       // not empty: whether one runs cannot be told, and why
  int exit_code = 0;         // for `trouble`: 2 where the configuration is to blame, else 1
};

DaemonSearch FindDaemon(const DaemonOptions& options);

}  // namespace supervisor
