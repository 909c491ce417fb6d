#pragma once

#include <cstddef>
#include <cstdint>

#include "daemon/guardian/restart_plan.h"

namespace supervisor {

// The parent of the daemon: small enough to be read in a minute, single-threaded, allocates nothing once it runs, so
// there is next to nothing that could end it. It is the child subreaper (PR_SET_CHILD_SUBREAPER, prctl(2)) and, in a
// container, PID 1. What it does:
//   * starts the daemon, and starts it again when it died (killed, or ended without saying that this was meant)
//   * reaps whatever is re-parented to it and writes {pid, wait status} to a pipe that every daemon inherits, so an
//     exit code is never lost, whoever was alive to see it
//   * forwards signals; suspends and resumes the daemon with itself (SIGTSTP, SIGCONT: a terminal's job control)
//   * ends when the daemon ended on purpose, with its exit code; a daemon does that only when no service is left
//   * ends when it is told to, whatever has become of the daemon and its program: see restart_plan.h

// One reaped process, as it lies in the pipe. Smaller than PIPE_BUF, so it is written whole or not at all (pipe(7)).
struct ReapedRecord {
  int32_t pid;
  int32_t status;  // of wait(2)
};

struct GuardianOptions {
  const char* program = nullptr;       // what to exec: the path, so that a replaced binary is taken up
  int program_fd = -1;                 // of the program that runs here (O_PATH): for when the path has none; -1: none
  char* const* daemon_argv = nullptr;  // its arguments; the guardian fills in nothing but the note
  char* note = nullptr;                // in daemon_argv: how the daemon before ended, for the next one's log
  size_t note_size = 0;                // with its final NUL
  int reaped_write_fd = -1;            // non-blocking
  int ready_fd = -1;                   // an eventfd; the daemon has written to it once it served
  bool has_served = false;             // a daemon of the guardian whose place this one has taken
  bool is_awaited = false;             // a caller waits for the first daemon to serve
};

// Returned in place of an exit code: the guardian is to be exec'd anew, with the same descriptors.
inline constexpr int kReplaceGuardian = -1;

// Returns the exit code for the process.
int RunGuardian(const GuardianOptions& options);

}  // namespace supervisor
