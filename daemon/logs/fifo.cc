#include "daemon/logs/fifo.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "common/errno_status.h"

namespace supervisor {
namespace {

absl::Status FifoError(int error, const std::string& path) {
  return ErrnoToStatus(error, fmt::format("output FIFO {}", path));
}

}  // namespace

absl::StatusOr<Fifo> Fifo::Open(const std::string& path, const Access& access) {
  if (mkfifo(path.c_str(), 0600) != 0 && errno != EEXIST) {
    return FifoError(errno, path);
  }
  Fifo fifo;
  fifo.path_ = path;
  // Read-write first: it never waits for another end, and what was opened is then checked before anything is changed.
  fifo.write_end_.Reset(open(path.c_str(), O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC));
  if (!fifo.write_end_) {
    return FifoError(errno, path);
  }
  struct stat status {};
  if (fstat(fifo.write_end_.get(), &status) != 0) {
    return FifoError(errno, path);
  }
  if (!S_ISFIFO(status.st_mode)) {
    return absl::FailedPreconditionError(
        fmt::format("output FIFO {}: another kind of file is in its place; remove it", path));
  }
  fifo.read_end_.Reset(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC));
  struct stat reread {};
  if (!fifo.read_end_ || fstat(fifo.read_end_.get(), &reread) != 0) {
    return FifoError(errno, path);
  }
  if (reread.st_dev != status.st_dev || reread.st_ino != status.st_ino) {
    return absl::AbortedError(fmt::format("output FIFO {}: replaced while it was opened", path));
  }
  if (const absl::Status owned = fifo.SetAccess(access); !owned.ok()) {
    return owned;
  }
  return fifo;
}

absl::StatusOr<Fifo> Fifo::Reopen(const std::string& path, int fd, const Access& access) {
  const std::string link = fmt::format("/proc/self/fd/{}", fd);  // proc(5): opens the file, not the name
  Fifo fifo;
  fifo.path_ = path;
  fifo.write_end_.Reset(open(link.c_str(), O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  fifo.read_end_.Reset(open(link.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!fifo.write_end_ || !fifo.read_end_) {
    return FifoError(errno, path);
  }
  if (absl::Status owned = fifo.SetAccess(access); !owned.ok()) {
    return owned;
  }
  return fifo;
}

absl::Status Fifo::SetAccess(const Access& access) const {
  struct stat status {};
  if (fstat(write_end_.get(), &status) != 0) {
    return FifoError(errno, path_);
  }
  if ((status.st_uid != access.uid || status.st_gid != access.gid) && geteuid() == 0 &&
      fchown(write_end_.get(), access.uid, access.gid) != 0) {
    return FifoError(errno, path_);
  }
  if ((status.st_mode & 07777) != access.mode && fchmod(write_end_.get(), access.mode) != 0) {
    return FifoError(errno, path_);
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> Fifo::NewWriteEnd() const {
  UniqueFd fresh(open(fmt::format("/proc/self/fd/{}", write_end_.get()).c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (fresh) {
    return fresh;
  }
  // Without /proc: by name, as long as the name is still ours.
  fresh.Reset(open(path_.c_str(), O_RDWR | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC));
  struct stat ours {};
  struct stat theirs {};
  if (!fresh || fstat(write_end_.get(), &ours) != 0 || fstat(fresh.get(), &theirs) != 0) {
    return FifoError(errno, path_);
  }
  if (ours.st_dev != theirs.st_dev || ours.st_ino != theirs.st_ino) {
    return absl::FailedPreconditionError(fmt::format("output FIFO {}: replaced by another file; remove that", path_));
  }
  return fresh;
}

size_t Fifo::WaitingBytes() const {
  int bytes = 0;
  return ioctl(read_end_.get(), FIONREAD, &bytes) == 0 && bytes > 0 ? static_cast<size_t>(bytes) : 0;
}

size_t Fifo::Capacity() const {
  const int bytes = fcntl(read_end_.get(), F_GETPIPE_SZ);
  return bytes > 0 ? static_cast<size_t>(bytes) : 0;
}

size_t Fifo::Resize(size_t bytes) const {
  const size_t present = Capacity();
  // EPERM: over the user's or the system's limit, so halve what we ask for. EBUSY: more waits than would fit.
  while (fcntl(read_end_.get(), F_SETPIPE_SZ, static_cast<int>(bytes)) < 0 && errno == EPERM && bytes / 2 > present) {
    bytes /= 2;
  }
  return Capacity();
}

void Fifo::Remove() const {
  struct stat ours {};
  struct stat named {};
  if (fstat(read_end_.get(), &ours) == 0 && lstat(path_.c_str(), &named) == 0 && ours.st_dev == named.st_dev &&
      ours.st_ino == named.st_ino) {
    unlink(path_.c_str());
  }
}

}  // namespace supervisor
