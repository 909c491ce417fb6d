#include "daemon/startup/process_setup.h"

#include <fcntl.h>
#include <link.h>
#include <linux/close_range.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>

#include "absl/synchronization/mutex.h"
#include "common/unique_fd.h"

namespace supervisor {

sigset_t HandledSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2}) {
    sigaddset(&set, signal);
  }
  return set;
}

void TidyProcess() {
  mallopt(M_ARENA_MAX, 2);  // NOLINT(concurrency-mt-unsafe): there is one thread yet
  // Debian builds Abseil with its search for lock cycles on: a graph under one lock of the process, to which every lock
  // that gRPC takes is added.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  sigset_t handled = HandledSignals();
  sigaddset(&handled, SIGCHLD);
  pthread_sigmask(SIG_SETMASK, &handled, nullptr);  // read by signalfd(2); every thread inherits this
  syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC);
}

// What start-up alone needed goes back to the system: the heap's free pages, and the pages of code and constants that
// were mapped, which come back when they are needed. Only what was never written is dropped: PT_LOAD segments without
// PF_W (elf(5)), so neither data nor relocations.
void GiveBackMemory() {
  malloc_trim(0);
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void*) {
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const ElfW(Phdr)& segment = info->dlpi_phdr[i];
          if (segment.p_type != PT_LOAD || (segment.p_flags & PF_W) != 0) {
            continue;
          }
          constexpr uintptr_t kPage = 4096;
          const uintptr_t begin = (info->dlpi_addr + segment.p_vaddr) & ~(kPage - 1);
          const uintptr_t end = info->dlpi_addr + segment.p_vaddr + segment.p_memsz;
          // A failure only means that the memory stays ours.
          static_cast<void>(madvise(reinterpret_cast<void*>(begin), end - begin,  // NOLINT(performance-no-int-to-ptr)
                                    MADV_DONTNEED));
        }
        return 1;  // the program itself comes first; the shared libraries are shared
      },
      nullptr);
}

// Thousands of services and connections are ours to hold; the services get back what we were given.
rlimit RaiseDescriptorLimit() {
  rlimit given{};
  getrlimit(RLIMIT_NOFILE, &given);
  rlimit raised = given;
  raised.rlim_cur = raised.rlim_max;
  setrlimit(RLIMIT_NOFILE, &raised);
  return given;
}

// Makes the descriptor table large enough for all services at once, while there is one thread: with several, the kernel
// lets every growth wait for a grace period of RCU, some 10 ms each.
void ReserveDescriptors(const Config& config) {
  constexpr rlim_t kOwn = 512;
  constexpr rlim_t kForEach = 10;  // FIFO ends, log, pidfd, what is kept open of /proc and of the cgroup
  rlim_t wanted = kOwn;
  for (const auto& [id, service] : config.services) {
    wanted += kForEach * static_cast<rlim_t>(service.instances);
  }
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const UniqueFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const UniqueFd last(fcntl(null.get(), F_DUPFD_CLOEXEC, static_cast<int>(std::min(wanted, limit.rlim_cur) - 1)));
}

}  // namespace supervisor
