#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace supervisor {

// A process that is there and that a signal did not reach: pidfd_open(2) or pidfd_send_signal(2) failed. The usual
// reason is EPERM: another user's process (a setuid program), or a supervisor without CAP_KILL.
struct SignalRefusal {
  pid_t pid = 0;
  int error = 0;  // errno, never ESRCH
};

// Sends it through the pidfd. Returns 0 or errno; a process that is gone (ESRCH) is none that refuses.
int SendSignalTo(int pid_fd, int signal);

// "pid 123 (sudo) of uid 0 (root)", as far as /proc and /etc/passwd tell. Does not ask a name service. Any thread.
std::string DescribeProcess(pid_t pid);

// "SIGKILL to pid 123 (sudo) of uid 0 (root): Operation not permitted (EPERM) for uid 1000". REQUIRES: not empty.
std::string DescribeRefusals(int signal, const std::vector<SignalRefusal>& refusals);

// "pid 123 (dd) of uid 0 (root) sleeps uninterruptibly (...)", at most three of them and how many more there are.
std::string DescribeLeft(const std::vector<pid_t>& pids);

}  // namespace supervisor
