#include "daemon/startup/lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>

#include "common/atomic_file.h"
#include "common/errno_status.h"
#include "daemon/process/proc_fs.h"
#include "daemon/startup/private_place.h"

namespace supervisor {
namespace {

constexpr int kMostLooks = 100;
constexpr int kLookEveryMs = 20;
constexpr size_t kMostPidText = 64;

std::optional<pid_t> ParsePid(std::string_view text) {
  pid_t pid = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), pid).ec != std::errc() || pid <= 0) {
    return std::nullopt;
  }
  return pid;
}

std::optional<pid_t> ReadPidFile(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadWholeFile(path, kMostPidText);
  return text.ok() ? ParsePid(*text) : std::nullopt;
}

bool IsAlive(pid_t pid) {
  const std::optional<ProcStat> stat = ReadProcStat(pid);
  return stat && !stat->is_dead();
}

// Its start; nothing where it cannot be read.
std::string ReadProcText(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char text[512];
  const ssize_t size = fd ? read(fd.get(), text, sizeof(text)) : 0;
  return {text, size > 0 ? static_cast<size_t>(size) : 0};
}

// What may be asked of anybody's process: what it was started as, and its name, which says so for one that was renamed.
bool IsSupervisor(pid_t pid) {
  constexpr std::string_view kProgram = "supervisord";
  const std::string directory = fmt::format("/proc/{}/", pid);
  std::string name = ReadProcText(directory + "comm");
  if (name.substr(0, name.find('\n')) == kProgram) {
    return true;
  }
  name = ReadProcText(directory + "cmdline");
  name.resize(std::min(name.find('\0'), name.size()));
  if (name.substr(name.rfind('/') + 1) == kProgram) {  // npos + 1 is 0
    return true;
  }
  struct stat program {};
  struct stat own {};
  return stat((directory + "exe").c_str(), &program) == 0 && stat("/proc/self/exe", &own) == 0 &&
         program.st_dev == own.st_dev && program.st_ino == own.st_ino;
}

// Whether a pid file that says `pid` may be believed: the process is a supervisord, and the lock's owner could signal
// it himself. Who can write the pid file could have us signal any process otherwise.
bool HoldsLock(pid_t pid, int lock_fd) {
  struct stat lock {};
  struct stat process {};  // proc(5): /proc/PID belongs to the process's effective user
  if (fstat(lock_fd, &lock) != 0 || stat(fmt::format("/proc/{}", pid).c_str(), &process) != 0 || !IsSupervisor(pid)) {
    return false;
  }
  return lock.st_uid == 0 ? lock.st_nlink <= 1 : process.st_uid == lock.st_uid;
}

// For whoever may not ask the lock: the pid file, which may be older than the process that has its pid now.
absl::StatusOr<std::optional<pid_t>> PidOfOthers(const RuntimePaths& paths) {
  const absl::StatusOr<std::string> text = ReadWholeFile(paths.pid_file, kMostPidText);
  if (absl::IsPermissionDenied(text.status())) {
    return text.status();
  }
  const std::optional<pid_t> pid = text.ok() ? ParsePid(*text) : std::nullopt;
  return pid && IsAlive(*pid) && IsSupervisor(*pid) ? pid : std::nullopt;
}

}  // namespace

bool IsNamed(int fd, const std::string& path) {
  struct stat open_file {};
  struct stat named_file {};
  return fstat(fd, &open_file) == 0 && lstat(path.c_str(), &named_file) == 0 && open_file.st_dev == named_file.st_dev &&
         open_file.st_ino == named_file.st_ino;
}

absl::StatusOr<UniqueFd> TryLock(const RuntimePaths& paths, FileTrust trust) {
  const std::string context = fmt::format("lock file {}", paths.lock_file);
  const std::string directory = paths.lock_file.substr(0, paths.lock_file.rfind('/'));
  if (absl::Status status = MakeRuntimeDirectory(directory, trust); !status.ok()) {
    return status;
  }
  for (;;) {
    UniqueFd fd(open(paths.lock_file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd) {
      return ErrnoToStatus(errno, context);
    }
    if (const absl::Status status = CheckOwner(fd.get(), paths.lock_file); !status.ok()) {
      return absl::Status(status.code(), fmt::format("lock file {}", std::string(status.message())));
    }
    if (flock(fd.get(), LOCK_EX | LOCK_NB) == 0) {
      if (IsNamed(fd.get(), paths.lock_file)) {
        return fd;
      }
      continue;  // its last holder has tidied it away: this lock would hold off nobody
    }
    if (errno != EWOULDBLOCK) {
      return ErrnoToStatus(errno, context);
    }
    const std::optional<pid_t> holder = ReadPidFile(paths.pid_file);
    return absl::AlreadyExistsError(
        fmt::format("already running: pid {} serves {}", holder ? std::to_string(*holder) : "unknown", paths.socket));
  }
}

absl::StatusOr<UniqueFd> AcquireLock(const RuntimePaths& paths, FileTrust trust) {
  // Of killed holders the kernel may not have let go yet: their lock outlives their pid by a moment.
  for (int look = 0;; ++look) {
    absl::StatusOr<UniqueFd> lock = TryLock(paths, trust);
    const std::optional<pid_t> holder = lock.ok() ? std::nullopt : ReadPidFile(paths.pid_file);
    if (!absl::IsAlreadyExists(lock.status()) || look >= kMostLooks || (holder && IsAlive(*holder))) {
      return lock;
    }
    poll(nullptr, 0, kLookEveryMs);
  }
}

absl::StatusOr<std::optional<pid_t>> RunningDaemon(const RuntimePaths& paths) {
  // Who has the lock may be about to write its pid, or may just have been killed: then it is looked again.
  std::optional<pid_t> holder;
  for (int look = 0; look < kMostLooks; ++look) {
    const UniqueFd fd(open(paths.lock_file.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (!fd && (errno == EACCES || errno == EPERM)) {
      return PidOfOthers(paths);
    }
    if (!fd) {
      return std::nullopt;
    }
    // Shared, and given back at once: two who ask at the same time must not take each other for a daemon.
    if (flock(fd.get(), LOCK_SH | LOCK_NB) == 0) {
      if (IsNamed(fd.get(), paths.lock_file)) {
        return std::nullopt;
      }
      continue;
    }
    if (errno != EWOULDBLOCK) {
      return std::nullopt;
    }
    holder = ReadPidFile(paths.pid_file);
    if (holder && IsAlive(*holder) && HoldsLock(*holder, fd.get())) {
      return holder;
    }
    poll(nullptr, 0, kLookEveryMs);
  }
  if (holder && IsAlive(*holder)) {
    return absl::FailedPreconditionError(
        fmt::format("{} names pid {}, which is no supervisord of the owner of {} (look at both files)", paths.pid_file,
                    *holder, paths.lock_file));
  }
  return holder;
}

}  // namespace supervisor
