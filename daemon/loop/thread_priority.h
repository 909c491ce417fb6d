#pragma once

namespace supervisor {

// The calling thread becomes last in line for processor and disk, for good. That a kernel or a container refuses is no
// harm. setpriority(2), ioprio_set(2): both count for a thread.
void LowerThreadPriority();

}  // namespace supervisor
