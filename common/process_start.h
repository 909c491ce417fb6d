#pragma once

namespace supervisor {

// A process inherits more than its arguments from the process that starts it: descriptors that are closed, signals that
// are ignored or blocked, a umask. Every main begins by putting that right, while there is one thread and nothing is
// open yet.

enum class ProgramKind {
  kClient,  // runs at a user's call and ends: umask and job control are the user's
  kDaemon,  // supervisord, in all its roles
};

// Makes the process fit to run:
//   * descriptors 0, 1 and 2 are open. One that was closed reads as empty, and a write to it fails with EBADF, as it
//     would have: otherwise the next file that is opened would get its number, and messages would be written into it.
//   * SIGCHLD is not ignored. Where it is, the kernel reaps children by itself, and no exit code is ever seen
//     (sigaction(2)).
//   * SIGPIPE and SIGXFSZ are ignored: a reader that has gone (EPIPE) and a file size limit (EFBIG) are errors of
//     write(2), not the end of the process.
//   * A daemon ignores SIGTTOU: a terminal with `stty tostop` must not stop it for a line of its log. Its umask is 022.
//   * Too little memory for the process, or no thread to be had, ends it with a message and exit code 1.
// Services get the default actions of all signals whatever stands here (daemon/process/launch.cc).
//
// Returns false where no descriptor can be opened at all: the process cannot do its work.
bool PrepareProcess(ProgramKind kind);

// Unblocks every signal. Apart from PrepareProcess: guardian and daemon pass on to each other signals that are blocked
// and pending, and each sets its own mask.
void UnblockSignals();

}  // namespace supervisor
