#include "daemon/guardian/keeper.h"

#include <errno.h>  // NOLINT(modernize-deprecated-headers): program_invocation_name
#include <fcntl.h>
#include <fmt/format.h>
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
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/passed_fd.h"
#include "common/time_format.h"

namespace supervisor {
namespace {

constexpr char kRelease = 'r';
constexpr char kLockAnew = 'l';
constexpr char kDiscard = 'd';  // comes with a FIFO
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

// A byte of its own, by which the next supervisor finds it. Held by whoever has the descriptor.
bool LockByte(const char* lock_file) {
  const int lock_fd = open(lock_file, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  struct flock lock = LockOf(F_WRLCK, getpid(), 1);
  return lock_fd >= 0 && fcntl(lock_fd, F_SETLK, &lock) == 0;
}

// Blocked so far: a machine or a unit that is stopped signals all, and then the supervisor has yet to come to its end.
void HeedTermination() {
  sigset_t ends;
  sigemptyset(&ends);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
    std::signal(number, SIG_IGN);  // drops what came meanwhile
    std::signal(number, SIG_DFL);
    sigaddset(&ends, number);
  }
  pthread_sigmask(SIG_UNBLOCK, &ends, nullptr);
}

// The FIFOs that somebody may still want to read, and the log of those that nobody will.
class KeptFifos {
 public:
  explicit KeptFifos(UniqueFd events) : events_(std::move(events)) {}

  void Take(int receive_fd) {
    char name[512];
    UniqueFd fd;
    for (ssize_t got = 0; (got = ReceiveWithFd(receive_fd, MSG_DONTWAIT, name, sizeof(name), &fd)) > 0;) {
      std::string text(name, static_cast<size_t>(got));
      if (text.starts_with(kHeldLogPrefix)) {
        log_path_ = text.substr(kHeldLogPrefix.size());
        log_ = std::move(fd);
        continue;
      }
      if (text.starts_with(kHeldClaimPrefix)) {
        claims_.push_back(std::move(fd));
        continue;
      }
      struct stat info {};
      epoll_event hang_up{};  // EPOLLHUP is always told (epoll_ctl(2)), of a FIFO when its last writer has gone
      hang_up.data.fd = fd.get();
      if (fstat(fd.get(), &info) == 0 && S_ISFIFO(info.st_mode) && !Has(info) &&
          epoll_ctl(events_.get(), EPOLL_CTL_ADD, fd.get(), &hang_up) == 0) {
        fifos_.push_back({.fd = std::move(fd), .path = std::move(text), .device = info.st_dev, .inode = info.st_ino});
      }
    }
  }

  bool empty() const { return fifos_.empty(); }

  // Until the writers of some have gone, at most `timeout_ms`.
  void Wait(int timeout_ms) {
    std::array<epoll_event, 64> events{};
    int got = 0;
    while ((got = epoll_wait(events_.get(), events.data(), static_cast<int>(events.size()), timeout_ms)) > 0) {
      for (int i = 0; i < got; ++i) {
        const int fd = events[static_cast<size_t>(i)].data.fd;
        epoll_ctl(events_.get(), EPOLL_CTL_DEL, fd, nullptr);  // told once: nobody starts to write to it again
        const auto kept = std::ranges::find(fifos_, fd, [](const Kept& each) { return each.fd.get(); });
        if (kept != fifos_.end()) {
          kept->hung_up = true;
        }
      }
      timeout_ms = 0;
    }
  }

  // Lets go of those that nobody can read, and of those that have nothing to be read.
  void Tidy() {
    std::erase_if(fifos_, [this](const Kept& kept) {
      const int bytes = BytesIn(kept.fd.get());
      if (!IsNamed(kept)) {
        if (kept.hung_up && bytes > 0) {
          TellLoss(kept.path, bytes);
        }
        return true;  // a service that is still there has it open itself
      }
      return kept.hung_up && bytes == 0;
    });
  }

 private:
  struct Kept {
    UniqueFd fd;
    std::string path;
    dev_t device = 0;
    ino_t inode = 0;
    bool hung_up = false;  // no writer is left
  };

  // A queue that was just being tidied has some of them twice.
  bool Has(const struct stat& info) const {
    return std::ranges::any_of(
        fifos_, [&](const Kept& kept) { return kept.device == info.st_dev && kept.inode == info.st_ino; });
  }

  static bool IsNamed(const Kept& kept) {
    struct stat named {};
    return lstat(kept.path.c_str(), &named) == 0 && kept.device == named.st_dev && kept.inode == named.st_ino;
  }

  static int BytesIn(int fd) {
    int bytes = 0;
    return ioctl(fd, FIONREAD, &bytes) == 0 ? bytes : 0;
  }

  // As the diagnostic log's lines (common/diag_log.h), into the file of the log's name, or into what was open last.
  void TellLoss(const std::string& path, int bytes) const {
    constexpr int kFlags = O_WRONLY | O_APPEND | O_NOCTTY | O_NONBLOCK | O_CLOEXEC;
    UniqueFd log(open(log_path_.c_str(), kFlags | O_NOFOLLOW));
    if (!log) {
      log.Reset(open(fmt::format("/proc/self/fd/{}", log_.get()).c_str(), kFlags));  // under its present name
    }
    const std::string line = fmt::format(
        "{} level=warning msg=\"what a service wrote last is lost: supervisord was killed, and its runtime directory "
        "removed before the next start\" fifo={} bytes={} keeper={}\n",
        FormatTimestamp(WallNow()), path, bytes, getpid());
    static_cast<void>(log && write(log.get(), line.data(), line.size()) < 0);  // nobody is left to be told
  }

  UniqueFd events_;
  UniqueFd log_;
  std::vector<UniqueFd> claims_;
  std::string log_path_;
  std::vector<Kept> fifos_;
};

// Until all of them are without a writer and without a byte, or have lost their name. One with bytes and no writer
// waits for the next supervisor.
void KeepWhileOfUse(int receive_fd, const char* lock_file) {
  // A name goes from a directory, a directory from another, a file system from its mount point: inotify(7) would not
  // tell of all that.
  constexpr int kLookEveryMs = 1000;
  rlimit descriptors{};
  getrlimit(RLIMIT_NOFILE, &descriptors);
  descriptors.rlim_cur = descriptors.rlim_max;
  setrlimit(RLIMIT_NOFILE, &descriptors);
  HeedTermination();
  KeptFifos fifos{UniqueFd(epoll_create1(EPOLL_CLOEXEC))};
  fifos.Take(receive_fd);
  LockByte(lock_file);  // to close any descriptor of that file, such as one out of the queue, lets go of it: fcntl(2)
  for (fifos.Wait(0), fifos.Tidy(); !fifos.empty(); fifos.Tidy()) {
    fifos.Wait(kLookEveryMs);
  }
}

// FIFOs that nobody captures any more, and the socket by which more of them come.
class Discarding {
 public:
  Discarding() : events_fd_(epoll_create1(EPOLL_CLOEXEC)) {}

  bool Watch(int fd) const {
    epoll_event readable{};
    readable.events = EPOLLIN;
    readable.data.fd = fd;
    return epoll_ctl(events_fd_, EPOLL_CTL_ADD, fd, &readable) == 0;
  }
  void Add(UniqueFd fifo) {
    if (fifo && Watch(fifo.get())) {
      fifo.Release();
      ++fifos_;
    }
  }
  void Forget(int fd) const { epoll_ctl(events_fd_, EPOLL_CTL_DEL, fd, nullptr); }
  // Whether some FIFO still has a writer.
  bool IsOfUse() {
    constexpr int kMostTurns = 1000;  // one that is written to without end is always readable
    for (int turn = 0; turn < kMostTurns && fifos_ > 0 && Turn(0); ++turn) {
    }
    return fifos_ > 0;
  }
  // Waits for one of the descriptors. Throws away what came through a FIFO. Returns false where none was readable.
  bool Turn(int timeout_ms) {
    static char sink[1 << 16];
    epoll_event event{};
    readable_ = -1;
    if (epoll_wait(events_fd_, &event, 1, timeout_ms) != 1) {
      return false;
    }
    readable_ = event.data.fd;
    struct stat info {};
    if (fstat(readable_, &info) == 0 && S_ISFIFO(info.st_mode) && read(readable_, sink, sizeof(sink)) == 0) {
      close(readable_);  // its last writer has gone
      --fifos_;
    }
    return true;
  }
  int readable() const { return readable_; }
  int count() const { return fifos_; }

 private:
  int events_fd_;
  int readable_ = -1;
  int fifos_ = 0;
};

[[noreturn]] void RunKeeper(int fd, int held_send_fd, int held_receive_fd, const char* lock_file) {
  Detach();
  CloseAllBut({fd, held_send_fd, held_receive_fd});  // the flock(2) of the supervisor with the rest
  SetTitle();
  const pid_t pid = getpid();
  if (!LockByte(lock_file) || write(fd, &pid, sizeof(pid)) != sizeof(pid)) {
    _exit(1);
  }
  Discarding discarding;
  char told = 0;
  ssize_t got = discarding.Watch(fd) ? 1 : 0;
  while (got != 0 && told != kRelease) {
    if (!discarding.Turn(-1) || discarding.readable() != fd) {
      continue;
    }
    UniqueFd fifo;
    got = ReceiveWithFd(fd, MSG_DONTWAIT, &told, 1, &fifo);
    if (got == 1 && told == kLockAnew) {
      LockByte(lock_file);
    } else if (got == 1 && told == kDiscard) {
      discarding.Add(std::move(fifo));
    }
  }
  discarding.Forget(fd);
  close(held_send_fd);
  const bool discards = discarding.IsOfUse();
  if (got == 0 && (!discards || fork() == 0)) {
    KeepWhileOfUse(held_receive_fd, lock_file);
    _exit(0);
  }
  if (discards) {
    // The supervisor has ended in order, or another process does what is said above. Nobody is to find this one.
    close(open(lock_file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));  // which lets go of the byte: fcntl(2)
    close(held_receive_fd);
    close(fd);
    while (discarding.count() > 0) {
      discarding.Turn(-1);
    }
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

bool DiscardThroughKeeper(int fd, int fifo) {
  return fd >= 0 && fifo >= 0 && SendWithFd(fd, MSG_DONTWAIT, &kDiscard, 1, fifo) == 1;
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
