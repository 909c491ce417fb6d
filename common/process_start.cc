#include "common/process_start.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <new>
#include <system_error>

#include "common/console.h"

namespace supervisor {
namespace {

// The lowest free number is given out (open(2)), which is `fd` where all below it are open.
bool OpenWhereClosed(int fd) {
  const int flags = fcntl(fd, F_GETFD);
  if (flags >= 0 && (flags & FD_CLOEXEC) != 0) {
    // What was inherited cannot have that flag, which is read before any other code of ours: a library's initialiser
    // has opened it in the place of one that was closed. gRPC 1.51 does, tries an eventfd and forgets number 0.
    close(fd);
  } else if (flags >= 0) {
    return true;
  }
  const int opened = open("/dev/null", O_RDONLY);  // style-ok(cloexec): 0 to 2 are for the next program too
  return opened == fd || (opened < 0 && open("/", O_PATH) == fd);  // style-ok(cloexec): a chroot without /dev, likewise
}

void SetAction(int signal, sighandler_t action) { static_cast<void>(std::signal(signal, action)); }

bool IsIgnored(int signal) {
  struct sigaction action {};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

// No core dump and no unwinding: nothing is wrong with the program, and what runs beside this thread goes on until the
// end. Every other exception that arrives here is a bug, and aborts.
[[noreturn]] void EndForWantOfResources() {
  try {
    if (const std::exception_ptr error = std::current_exception()) {
      std::rethrow_exception(error);
    }
  } catch (const std::bad_alloc&) {
    PrintError("supervisor: out of memory (a limit on address space, ulimit -v, or of the container?)\n");
    _exit(1);
  } catch (const std::system_error& error) {
    PrintError(fmt::format("supervisor: {} (a limit on processes, ulimit -u, or of the container?)\n", error.what()));
    _exit(1);
  } catch (...) {
    std::abort();
  }
  std::abort();
}

}  // namespace

bool PrepareProcess(ProgramKind kind) {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (!OpenWhereClosed(fd)) {
      return false;
    }
  }
  if (IsIgnored(SIGCHLD)) {  // else left alone: to set it would throw away a pending one (sigaction(2))
    SetAction(SIGCHLD, SIG_DFL);
  }
  SetAction(SIGPIPE, SIG_IGN);
  SetAction(SIGXFSZ, SIG_IGN);
  std::set_terminate(&EndForWantOfResources);
  switch (kind) {
    case ProgramKind::kClient:
      break;
    case ProgramKind::kDaemon:
      SetAction(SIGTTOU, SIG_IGN);
      umask(022);  // style-ok(chdir): there is one thread yet
      break;
  }
  return true;
}

void UnblockSignals() {
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

}  // namespace supervisor
