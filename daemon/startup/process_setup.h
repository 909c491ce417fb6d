#pragma once

#include <signal.h>
#include <sys/resource.h>

#include "daemon/config/config.h"

namespace supervisor {

// What the daemon's process is made into before it does anything: while there is one thread.

// Those that the daemon reads with signalfd(2).
sigset_t HandledSignals();

// What we were started with (a blocked mask, an ignored signal, strange descriptors) must not be what we run with.
// `reads_children_ends`: SIGCHLD is for a signalfd(2) too.
void TidyProcess(bool reads_children_ends);

// Returns the limit that was given, which the services get back.
rlimit RaiseDescriptorLimit();

// Makes the descriptor table large enough for all services of `config` at once.
void ReserveDescriptors(const Config& config);

// What start-up alone needed goes back to the system. Any time.
void GiveBackMemory();

}  // namespace supervisor
