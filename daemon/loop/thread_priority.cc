#include "daemon/loop/thread_priority.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace supervisor {

void LowerThreadPriority() {
  constexpr int kLowest = 19;
  const auto self = static_cast<id_t>(syscall(SYS_gettid));
  setpriority(PRIO_PROCESS, self, kLowest);
  constexpr int kIoprioWhoProcess = 1;  // linux/ioprio.h, which glibc does not wrap
  constexpr int kIoprioIdle = 3 << 13;
  syscall(SYS_ioprio_set, kIoprioWhoProcess, 0, kIoprioIdle);
}

}  // namespace supervisor
