#include "daemon/guardian/own_children.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "common/unique_fd.h"

namespace supervisor {

bool HasChildren() {
  siginfo_t info{};
  return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;  // else ECHILD
}

// proc(5): /proc/PID/task/TID/children, pids with a blank behind each. Not reaped meanwhile, a pid stays that child's.
int SignalChildren(int signal) {
  const UniqueFd file(open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC));
  if (!file) {
    return -1;
  }
  int count = 0;
  pid_t pid = 0;
  char chunk[4096];
  for (ssize_t got = 0; (got = read(file.get(), chunk, sizeof(chunk))) > 0;) {
    for (ssize_t i = 0; i < got; ++i) {
      if (chunk[i] >= '0' && chunk[i] <= '9') {
        pid = pid * 10 + (chunk[i] - '0');
      } else if (pid > 0) {
        kill(pid, signal);
        ++count;
        pid = 0;
      }
    }
  }
  return count;
}

}  // namespace supervisor
