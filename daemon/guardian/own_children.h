#pragma once

namespace supervisor {

// The children of this process, from the kernel. Allocates nothing.

// Living ones and those that have ended and were not reaped.
bool HasChildren();

// Sends each child the signal. Returns how many there are; -1 where /proc does not list them.
int SignalChildren(int signal);

}  // namespace supervisor
