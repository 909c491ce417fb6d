#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "common/unique_fd.h"

namespace supervisor {

// The third process, for the case that guardian and daemon are killed together: a FIFO's bytes go with the last who has
// it open (fifo(7)), so what a service wrote last and nobody has read yet would be lost if it ended before the next
// start. The keeper sleeps until both are gone; then it has all FIFOs open until the next supervisor has them, or until
// nothing is left to keep: a FIFO without a writer and without a byte, and one whose name was removed, which no
// supervisor can find any more. What is lost by that is a line in the supervisor's log. Of those it reads no byte. It
// allocates nothing, ends with an orderly end of the supervisor, and by SIGTERM once both are gone.
//
// The exception are FIFOs that nobody captures any more, while a process still writes to them: a child that
// graceful_shutdown.kill_mode "process" has left to itself. Its writes would block for ever once the pipe is full. The
// keeper reads those FIFOs and throws away what comes, until no writer is left, after the supervisor's end too.

// Under this name and the log's path the daemon holds its log among its held descriptors, for the keeper's line.
inline constexpr std::string_view kHeldLogPrefix = "log:";
// Under this name the daemon holds the lock that says which pid files and logs are its own (startup/file_claims.h);
// they are for as long as a service still runs.
inline constexpr std::string_view kHeldClaimPrefix = "claim:";

struct Keeper {
  int fd = -1;     // a socket, for guardian and daemons to inherit: that none of them has it open any more wakes it
  pid_t pid = -1;  // not a child of ours
};

// To be called by a process of one thread. `held_receive_fd`: where daemons hold descriptors, see
// daemon/process/held_descriptors.h. `lock_file`: it locks a byte of it (fcntl(2)), by which the next supervisor finds
// it. {-1, -1} where there can be none: the supervisor works without it.
Keeper StartKeeper(int held_send_fd, int held_receive_fd, const std::string& lock_file);

// The lock file was removed, and there is another of its name: the keeper locks its byte of that.
void TellKeeperOfNewLock(int fd);

// What is written to this FIFO (borrowed, open for reading) is to be thrown away. Returns false where nobody does.
bool DiscardThroughKeeper(int fd, int fifo);

// Tells it that nothing is to be kept, and waits until it has ended or has only FIFOs to discard; a second at most. -1
// is nobody.
void ReleaseKeeper(int fd);

// Keepers that supervisors before this one have left, as pidfds; `own`: the pid of this one's.
std::vector<UniqueFd> FindEarlierKeepers(const std::string& lock_file, pid_t own);

// Once what they keep is open elsewhere.
void EndKeepers(const std::vector<UniqueFd>& keepers);

}  // namespace supervisor
