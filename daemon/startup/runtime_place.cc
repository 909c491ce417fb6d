#include "daemon/startup/runtime_place.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "common/atomic_file.h"
#include "common/errno_status.h"
#include "daemon/startup/lock.h"
#include "daemon/startup/private_place.h"

namespace supervisor {
namespace {

bool Exists(const std::string& path) {
  struct stat info {};
  return lstat(path.c_str(), &info) == 0;
}

}  // namespace

absl::Status RuntimePlace::MakeDirectories() const {
  const std::string parent = paths_.socket.substr(0, paths_.socket.rfind('/'));
  if (absl::Status status = MakeRuntimeDirectory(parent, trust_); !status.ok()) {
    return status;
  }
  // Services reach their FIFO in there, which is theirs; nobody can list it.
  if (absl::Status status = MakePrivateDirectory(paths_.state_directory, 0711); !status.ok()) {
    return status;
  }
  return MakePrivateDirectory(paths_.state_directory + "/private", 0700);
}

bool RuntimePlace::IsWhole() const {
  return (lock_fd_ < 0 || IsNamed(lock_fd_, paths_.lock_file)) && Exists(paths_.pid_file) &&
         Exists(paths_.state_directory + "/private");
}

// The number stays: it is known to the program that may come into this process.
absl::Status RuntimePlace::RestoreLock(HeldDescriptors& held) const {
  if (lock_fd_ < 0 || IsNamed(lock_fd_, paths_.lock_file)) {
    return absl::OkStatus();
  }
  UniqueFd lock = held.TakeFile(paths_.lock_file);  // of the daemon before this one
  if (!lock || !IsNamed(lock.get(), paths_.lock_file)) {
    absl::StatusOr<UniqueFd> taken = TryLock(paths_, trust_);
    if (!taken.ok()) {
      return taken.status();
    }
    lock = *std::move(taken);
  }
  if (dup3(lock.get(), lock_fd_, O_CLOEXEC) < 0) {
    return ErrnoToStatus(errno, fmt::format("lock file {}", paths_.lock_file));
  }
  return held.Keep(paths_.lock_file, lock_fd_);
}

absl::Status RuntimePlace::Restore(pid_t pid_to_signal, HeldDescriptors& held) const {
  if (absl::Status status = RestoreLock(held); !status.ok()) {
    return status;
  }
  if (absl::Status status = MakeDirectories(); !status.ok()) {
    return status;
  }
  return Exists(paths_.pid_file) ? absl::OkStatus()
                                 : WriteFileAtomically(paths_.pid_file, fmt::format("{}\n", pid_to_signal), 0644);
}

}  // namespace supervisor
