#pragma once

#include "daemon/process/proc_fs.h"

namespace supervisor {

// What a process runs on between clone(2) and execve(2). Any thread.

// True iff a supervisor has cloned the process as one of its own (launch.h) and the process has not come to its
// execve(2): it still runs on the supervisor's memory, this one's or that of a daemon which has died since. A kernel or
// a container that hides this (ptrace(2), kcmp(2)) leaves false.
bool AwaitsExec(const ProcStat& stat);

// True iff the process has not exec'd and uses the address space of its parent, as a child of vfork(2) does.
bool SharesMemoryWithParent(const ProcStat& stat);

}  // namespace supervisor
