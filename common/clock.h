#pragma once

#include "absl/time/time.h"

namespace supervisor {

// Two clocks, never mixed: one for deadlines, one for records. Only clock.cc reads them; logic takes the time as an
// argument, so that tests own it.

// A point on CLOCK_MONOTONIC (clock_gettime(2)), as the time since its zero. Survives exec, not a reboot; does not
// advance while the machine is suspended, so that a laptop's lid does not fire every deadline at once.
using MonoTime = absl::Duration;

inline constexpr MonoTime kNoDeadline = absl::InfiniteDuration();

MonoTime MonotonicNow();
absl::Time WallNow();
// CLOCK_BOOTTIME, which goes on while the machine is suspended: what the kernel counts start times of processes by
// (field 22 of /proc/PID/stat, proc(5)).
absl::Duration SinceBoot();

}  // namespace supervisor
