#include "daemon/guardian/keeper.h"

#include <errno.h>  // NOLINT(modernize-deprecated-headers): program_invocation_name
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <utility>

#include "common/passed_fd.h"

namespace supervisor {
namespace {

constexpr char kRelease = 'r';
constexpr char kLockAnew = 'l';
// What ps(1) shows.
constexpr char kTitle[] = "supervisor-keep: holds what services wrote, should supervisord be killed";
constexpr char kComm[] = "supervisor-keep";

struct flock LockOf(short type, off_t start, off_t length) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = length;
  return lock;
}

void CloseAllBut(std::array<int, 3> fds) {
  std::sort(fds.begin(), fds.end());
  unsigned first = 3;
  for (const int fd : fds) {
    if (std::cmp_less(first, fd)) {
      syscall(SYS_close_range, first, static_cast<unsigned>(fd) - 1, 0);
    }
    first = std::max(first, static_cast<unsigned>(fd) + 1);
  }
  syscall(SYS_close_range, first, ~0U, 0);
}

// Over the arguments that this process has from its parent; they end where the environment begins.
void SetTitle() {
  prctl(PR_SET_NAME, kComm);
  size_t size = 0;
  char chunk[512];
  const int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
  for (ssize_t got = 0; fd >= 0 && (got = read(fd, chunk, sizeof(chunk))) > 0;) {
    size += static_cast<size_t>(got);
  }
  close(fd);
  if (size > 1) {
    std::memset(program_invocation_name, 0, size);
    std::memcpy(program_invocation_name, kTitle, std::min(size - 1, sizeof(kTitle) - 1));
  }
}

// Nothing of whoever started the supervisor: no signal, terminal, directory, output.
void Detach() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  setsid();
  static_cast<void>(!chdir("/"));  // which can always be entered
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd <= 2; ++fd) {
    if (dup2(null, fd) < 0) {
      close(fd);
    }
  }
  if (null > 2) {
    close(null);
  }
}

// A FIFO that still has its name; the others lie in the queue because nobody has tidied it.
bool IsWorthKeeping(int fd) {
  struct stat info {};
  return fstat(fd, &info) == 0 && S_ISFIFO(info.st_mode) && info.st_nlink > 0;
}

// A byte of its own, by which the next supervisor finds it. Held by whoever has the descriptor.
bool LockByte(const char* lock_file) {
  const int lock_fd = open(lock_file, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  struct flock lock = LockOf(F_WRLCK, getpid(), 1);
  return lock_fd >= 0 && fcntl(lock_fd, F_SETLK, &lock) == 0;
}

// Until all of them are without a writer and without a byte. One with bytes and no writer waits for the next
// supervisor.
void KeepWhileOfUse(int receive_fd, const char* lock_file) {
  rlimit descriptors{};
  getrlimit(RLIMIT_NOFILE, &descriptors);
  descriptors.rlim_cur = descriptors.rlim_max;
  setrlimit(RLIMIT_NOFILE, &descriptors);
  const int events_fd = epoll_create1(EPOLL_CLOEXEC);
  int kept = 0;
  char name[1];  // which does not matter here
  UniqueFd fifo;
  while (ReceiveWithFd(receive_fd, MSG_DONTWAIT, name, sizeof(name), &fifo) > 0) {
    epoll_event hang_up{};  // EPOLLHUP is always told (epoll_ctl(2)), of a FIFO when its last writer has gone
    hang_up.data.fd = fifo.get();
    if (IsWorthKeeping(fifo.get()) && epoll_ctl(events_fd, EPOLL_CTL_ADD, fifo.get(), &hang_up) == 0) {
      fifo.Release();
      ++kept;
    }
  }
  LockByte(lock_file);  // to close any descriptor of that file, such as one out of the queue, lets go of it: fcntl(2)
  while (kept > 0) {
    epoll_event event{};
    if (epoll_wait(events_fd, &event, 1, -1) != 1) {
      continue;
    }
    const int fd = event.data.fd;
    int bytes = 0;
    if (ioctl(fd, FIONREAD, &bytes) != 0 || bytes == 0) {
      close(fd);
      --kept;
    } else {
      epoll_ctl(events_fd, EPOLL_CTL_DEL, fd, nullptr);
    }
  }
}

[[noreturn]] void RunKeeper(int fd, int held_send_fd, int held_receive_fd, const char* lock_file) {
  Detach();
  CloseAllBut({fd, held_send_fd, held_receive_fd});  // the flock(2) of the supervisor with the rest
  SetTitle();
  const pid_t pid = getpid();
  if (!LockByte(lock_file) || write(fd, &pid, sizeof(pid)) != sizeof(pid)) {
    _exit(1);
  }
  char told = 0;
  ssize_t got = 0;
  do {
    got = read(fd, &told, 1);
    if (got == 1 && told == kLockAnew) {
      LockByte(lock_file);
    }
  } while ((got < 0 && errno == EINTR) || (got == 1 && told == kLockAnew));
  if (got == 0) {
    close(held_send_fd);
    KeepWhileOfUse(held_receive_fd, lock_file);
  }
  _exit(0);
}

UniqueFd OpenPidFd(pid_t pid) { return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))); }

void WaitForEnd(int fd) {
  constexpr int kPatienceMs = 1000;
  pollfd waits{fd, POLLIN, 0};
  poll(&waits, 1, kPatienceMs);
}

}  // namespace

Keeper StartKeeper(int held_send_fd, int held_receive_fd, const std::string& lock_file) {
  int ends[2];
  // A pid namespace ends with its PID 1, and all that is in it.
  // style-ok(cloexec): every daemon inherits it
  if (getpid() == 1 || held_receive_fd < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) {
    return {};
  }
  UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  const pid_t between = fork();
  if (between == 0) {
    // Twice: who looks at our children is to find the daemon there, and nobody else.
    if (fork() != 0) {
      _exit(0);
    }
    RunKeeper(theirs.get(), held_send_fd, held_receive_fd, lock_file.c_str());
  }
  theirs.Reset();
  pid_t pid = -1;
  if (between < 0 || waitpid(between, nullptr, 0) != between || read(ours.get(), &pid, sizeof(pid)) != sizeof(pid)) {
    return {};
  }
  return {ours.Release(), pid};
}

void TellKeeperOfNewLock(int fd) {
  if (fd >= 0) {
    send(fd, &kLockAnew, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
  }
}

void ReleaseKeeper(int fd) {
  if (fd < 0 || send(fd, &kRelease, 1, MSG_NOSIGNAL) != 1) {
    return;
  }
  WaitForEnd(fd);  // the end of file that its own end gives
}

std::vector<UniqueFd> FindEarlierKeepers(const std::string& lock_file, pid_t own) {
  std::vector<UniqueFd> found;
  const UniqueFd fd(open(lock_file.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  for (off_t from = 0; fd;) {
    struct flock lock = LockOf(F_WRLCK, from, 0);
    if (fcntl(fd.get(), F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) {
      break;
    }
    from = lock.l_start + 1;
    const pid_t holder = lock.l_pid;
    if (holder <= 0 || holder == own) {
      continue;
    }
    UniqueFd pid_fd = OpenPidFd(holder);
    struct flock again = LockOf(F_WRLCK, lock.l_start, 1);
    // It holds it still, so the pidfd is its own and not that of another who has its pid since.
    if (pid_fd && fcntl(fd.get(), F_GETLK, &again) == 0 && again.l_type != F_UNLCK && again.l_pid == holder) {
      found.push_back(std::move(pid_fd));
    }
  }
  return found;
}

void EndKeepers(const std::vector<UniqueFd>& keepers) {
  for (const UniqueFd& keeper : keepers) {
    syscall(SYS_pidfd_send_signal, keeper.get(), SIGKILL, nullptr, 0);
  }
  for (const UniqueFd& keeper : keepers) {
    WaitForEnd(keeper.get());
  }
}

}  // namespace supervisor
