#pragma once

#include <sys/types.h>

#include <memory>

#include "daemon/loop/loop_watchdog.h"

namespace supervisor {

// What follows when the daemon's loop hangs: a word in the log, and while the guardian lives, which starts the next
// daemon, the end of this one (SIGABRT, so that a core dump shows where it hung). Without a guardian nobody would come
// in its place, so it is only told. `guardian`: its pid; 0: there was none from the start. Loop thread.
std::unique_ptr<LoopWatchdog> WatchForHang(pid_t guardian);

}  // namespace supervisor
