#pragma once

#include <signal.h>
#include <sys/resource.h>

#include "daemon/config/config.h"

namespace supervisor {

// What the daemon's process is made into before it does anything: while there is one thread.

// Those that the daemon reads with signalfd(2).
sigset_t HandledSignals();

// What PrepareProcess (common/process_start.h) leaves to a daemon: the signals that it reads, and the descriptors that
// its children must not inherit. Blocks HandledSignals and SIGCHLD, which signalfd(2) reads, in every thread to come.
void TidyProcess();

// Returns the limit that was given, which the services get back.
rlimit RaiseDescriptorLimit();

// Makes the descriptor table large enough for all services of `config` at once.
void ReserveDescriptors(const Config& config);

// What start-up alone needed goes back to the system. Any time.
void GiveBackMemory();

}  // namespace supervisor
