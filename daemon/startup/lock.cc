#include "daemon/startup/lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>

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

bool IsAlive(pid_t pid) {
  const std::optional<ProcStat> stat = ReadProcStat(pid);
  return stat && !stat->is_dead();
}

constexpr int kMostLooks = 100;
constexpr int kLookEveryMs = 20;

}  // namespace

absl::StatusOr<UniqueFd> AcquireLock(const RuntimePaths& paths) {
  const std::string directory = paths.lock_file.substr(0, paths.lock_file.rfind('/'));
  if (absl::Status status = MakeDirectories(directory, 0755); !status.ok()) {
    return status;
  }
  UniqueFd fd(open(paths.lock_file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) {
    return ErrnoToStatus(errno, fmt::format("lock file {}", paths.lock_file));
  }
  // Of killed holders the kernel may not have let go yet: their lock outlives their pid by a moment.
  for (int look = 0; flock(fd.get(), LOCK_EX | LOCK_NB) != 0; ++look) {
    if (errno != EWOULDBLOCK) {
      return ErrnoToStatus(errno, fmt::format("lock file {}", paths.lock_file));
    }
    const std::optional<pid_t> holder = ReadPidFile(paths.pid_file);
    if (look == kMostLooks || (holder && IsAlive(*holder))) {
      return absl::AlreadyExistsError(
          fmt::format("already running: pid {} serves {}", holder ? std::to_string(*holder) : "unknown", paths.socket));
    }
    poll(nullptr, 0, kLookEveryMs);
  }
  return fd;
}

std::optional<pid_t> RunningDaemon(const RuntimePaths& paths) {
  const UniqueFd fd(open(paths.lock_file.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  // Shared, and given back at once: two who ask at the same time must not take each other for a daemon.
  if (!fd || flock(fd.get(), LOCK_SH | LOCK_NB) == 0) {
    return std::nullopt;
  }
  return errno == EWOULDBLOCK ? ReadPidFile(paths.pid_file) : std::nullopt;
}

}  // namespace supervisor
