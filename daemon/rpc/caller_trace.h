#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "daemon/process/process_tree.h"

namespace supervisor {

// What tells of which service a caller is a process. Taken while the call is there, before its process may end. Only of
// what the kernel itself answers: a process's environment is its own memory, and reading that may wait for ever.
struct CallerTrace {
  std::vector<pid_t> ancestors;  // itself first
  pid_t session = 0;
  std::string cgroup;  // of cgroup v2, as /proc/PID/cgroup has it
};

// Of a living process; empty for one that is gone. Reads /proc; any thread but the loop's.
CallerTrace TraceCaller(pid_t pid);

// Whether the caller is a process of that tree, whose main process is `main_pid` (0: none). Without a cgroup one that
// has left its session and lost its parents is not known. Pure.
bool IsOfTree(const CallerTrace& caller, const ProcessTreeView& tree, pid_t main_pid);

}  // namespace supervisor
