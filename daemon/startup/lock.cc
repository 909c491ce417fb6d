#include "daemon/startup/lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <charconv>
#include <string>

#include "common/atomic_file.h"
#include "common/errno_status.h"
#include "daemon/process/proc_fs.h"

namespace supervisor {
namespace {

std::optional<pid_t> ReadPidFile(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadWholeFile(path, 64);
  pid_t pid = 0;
  if (!text.ok() || std::from_chars(text->data(), text->data() + text->size(), pid).ec != std::errc() || pid <= 0) {
    return std::nullopt;
  }
  return pid;
}

// Whether the path still names the file that is open.
bool IsStillThere(int fd, const std::string& path) {
  struct stat open_file {};
  struct stat named_file {};
  return fstat(fd, &open_file) == 0 && lstat(path.c_str(), &named_file) == 0 && open_file.st_dev == named_file.st_dev &&
         open_file.st_ino == named_file.st_ino;
}

bool IsAlive(pid_t pid) {
  const std::optional<ProcStat> stat = ReadProcStat(pid);
  return stat && !stat->is_dead();
}

constexpr int kMostLooks = 100;
constexpr int kLookEveryMs = 20;

}  // namespace

absl::StatusOr<UniqueFd> AcquireLock(const RuntimePaths& paths) {
  const std::string context = fmt::format("lock file {}", paths.lock_file);
  const std::string directory = paths.lock_file.substr(0, paths.lock_file.rfind('/'));
  if (absl::Status status = MakeDirectories(directory, 0755); !status.ok()) {
    return status;
  }
  // Of killed holders the kernel may not have let go yet: their lock outlives their pid by a moment.
  for (int look = 0;; ++look) {
    UniqueFd fd(open(paths.lock_file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd) {
      return ErrnoToStatus(errno, context);
    }
    if (flock(fd.get(), LOCK_EX | LOCK_NB) == 0) {
      if (IsStillThere(fd.get(), paths.lock_file)) {
        return fd;
      }
      continue;  // its last holder has tidied it away: this lock would hold off nobody
    }
    if (errno != EWOULDBLOCK) {
      return ErrnoToStatus(errno, context);
    }
    const std::optional<pid_t> holder = ReadPidFile(paths.pid_file);
    if (look >= kMostLooks || (holder && IsAlive(*holder))) {
      return absl::AlreadyExistsError(
          fmt::format("already running: pid {} serves {}", holder ? std::to_string(*holder) : "unknown", paths.socket));
    }
    poll(nullptr, 0, kLookEveryMs);
  }
}

std::optional<pid_t> RunningDaemon(const RuntimePaths& paths) {
  // Who has the lock may be about to write its pid, or may just have been killed: then it is looked again.
  std::optional<pid_t> holder;
  for (int look = 0; look < kMostLooks; ++look) {
    const UniqueFd fd(open(paths.lock_file.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (!fd) {
      return std::nullopt;
    }
    // Shared, and given back at once: two who ask at the same time must not take each other for a daemon.
    if (flock(fd.get(), LOCK_SH | LOCK_NB) == 0) {
      if (IsStillThere(fd.get(), paths.lock_file)) {
        return std::nullopt;
      }
      continue;
    }
    if (errno != EWOULDBLOCK) {
      return std::nullopt;
    }
    holder = ReadPidFile(paths.pid_file);
    if (holder && IsAlive(*holder)) {
      return holder;
    }
    poll(nullptr, 0, kLookEveryMs);
  }
  return holder;
}

}  // namespace supervisor
