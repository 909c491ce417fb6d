#pragma once

#include <cstdint>

namespace supervisor {

// The parent of the daemon: small enough to be read in a minute, single-threaded, allocates nothing once it runs, so
// there is next to nothing that could end it. It is the child subreaper (PR_SET_CHILD_SUBREAPER, prctl(2)) and, in a
// container, PID 1. What it does:
//   * starts the daemon, and starts it again when it died (killed, or ended without saying that this was meant)
//   * reaps whatever is re-parented to it and writes {pid, wait status} to a pipe that every daemon inherits, so an
//     exit code is never lost, whoever was alive to see it
//   * forwards signals
//   * ends when the daemon ended on purpose, with its exit code; a daemon does that only when no service is left

// What the daemon ends with when it has stopped everything for a reason that is a failure: the guardian then exits 1.
inline constexpr int kExitOrderlyFailure = 70;
// What it ends with to be replaced by another program of the same path, guardian included; its services run.
inline constexpr int kExitForUpgrade = 71;

// One reaped process, as it lies in the pipe. Smaller than PIPE_BUF, so it is written whole or not at all (pipe(7)).
struct ReapedRecord {
  int32_t pid;
  int32_t status;  // of wait(2)
};

struct GuardianOptions {
  const char* program = nullptr;       // what to exec: the path, so that a replaced binary is taken up
  char* const* daemon_argv = nullptr;  // its arguments; the guardian fills nothing in
  int reaped_write_fd = -1;            // non-blocking
  int ready_fd = -1;                   // an eventfd; the daemon has written to it once it served
  bool has_served = false;             // a daemon of the guardian whose place this one has taken
};

// How long to wait before the next start of a daemon that died `lived_ms` after its own. `served`: it had come so far
// as to answer. Its services wait for such a one, so it is back at once or soon; one that cannot even start is tried
// ever more rarely. `last_ms`: the delay before the daemon that died; 0 for the first.
int64_t NextRestartDelayMs(int64_t last_ms, bool served, int64_t lived_ms);

// Returned in place of an exit code: the guardian is to be exec'd anew, with the same descriptors.
inline constexpr int kReplaceGuardian = -1;

// Returns the exit code for the process.
int RunGuardian(const GuardianOptions& options);

}  // namespace supervisor
