#include "daemon/logs/log_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/errno_status.h"
#include "common/rotated_files.h"

namespace supervisor {
namespace {

constexpr mode_t kFileMode = 0640;
constexpr mode_t kDirectoryMode = 0755;
constexpr int kOpenFlags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;

// Makes the directory and those above it. What is there already is no failure; another one shows when it is opened.
void MakeDirectories(const std::string& path) {
  for (size_t end = path.find('/', 1); end != std::string::npos; end = path.find('/', end + 1)) {
    mkdir(path.substr(0, end).c_str(), kDirectoryMode);
  }
  mkdir(path.c_str(), kDirectoryMode);
}

bool IsOurs(uid_t owner) { return owner == 0 || owner == geteuid(); }

}  // namespace

LogFile::LogFile(const std::string& path) : path_(path) {
  const size_t slash = path.rfind('/');
  directory_ = slash == std::string::npos ? "." : path.substr(0, std::max<size_t>(slash, 1));
  base_ = slash == std::string::npos ? path : path.substr(slash + 1);
}

absl::Status LogFile::Refused(std::string_view why) const {
  return absl::FailedPreconditionError(fmt::format("log file {}: {}", path_, why));
}

absl::StatusOr<UniqueFd> LogFile::OpenDirectory() const {
  struct stat named {};
  if (lstat(directory_.c_str(), &named) == 0 && S_ISLNK(named.st_mode) && !IsOurs(named.st_uid)) {
    return absl::FailedPreconditionError(
        fmt::format("log directory {}: a symbolic link that user {} made; remove it", directory_, named.st_uid));
  }
  UniqueFd directory(open(directory_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory) {
    return ErrnoToStatus(errno, fmt::format("log file {}", path_));
  }
  return directory;
}

absl::Status LogFile::Open() {
  file_.Reset();
  absl::StatusOr<UniqueFd> directory = OpenDirectory();
  if (absl::IsNotFound(directory.status())) {
    MakeDirectories(directory_);
    directory = OpenDirectory();
  }
  if (!directory.ok()) {
    return directory.status();
  }
  UniqueFd file(openat(directory->get(), base_.c_str(), kOpenFlags));
  if (!file && errno == ENOENT) {
    file.Reset(openat(directory->get(), base_.c_str(), kOpenFlags | O_CREAT | O_EXCL, kFileMode));
    if (file && fchmod(file.get(), kFileMode) != 0) {  // whatever the umask is
      return ErrnoToStatus(errno, fmt::format("log file {}", path_));
    }
  }
  if (!file) {
    switch (errno) {
      case ELOOP:
        return Refused("is a symbolic link, which is not followed; remove it");
      case EISDIR:
        return Refused("is a directory; remove or rename it");
      default:
        return ErrnoToStatus(errno, fmt::format("log file {}", path_));
    }
  }
  if (absl::Status checked = CheckOpened(directory->get(), file.get()); !checked.ok()) {
    return checked;
  }
  file_ = std::move(file);
  if (const auto facts = FactsOf(directory->get())) {
    directory_id_ = facts->id;
  }
  return absl::OkStatus();
}

absl::Status LogFile::CheckOpened(int dir_fd, int fd) const {
  struct stat directory {};
  struct stat file {};
  if (fstat(dir_fd, &directory) != 0 || fstat(fd, &file) != 0) {
    return ErrnoToStatus(errno, fmt::format("log file {}", path_));
  }
  if (!S_ISREG(file.st_mode)) {
    return Refused("is not a regular file; remove or rename it");
  }
  // Where others may make names, a file could be another's by a hard link, or a stranger's who then reads the log.
  const bool world_writable = (directory.st_mode & S_IWOTH) != 0;
  if (world_writable || !IsOurs(directory.st_uid)) {
    const bool owner_fits = file.st_uid == geteuid() || (!world_writable && file.st_uid == directory.st_uid);
    if (!owner_fits) {
      return Refused(fmt::format("belongs to user {}, in a directory where others may write; remove it", file.st_uid));
    }
    if (file.st_nlink > 1) {
      return Refused("has another name (a hard link), in a directory where others may write; remove it");
    }
  }
  return absl::OkStatus();
}

bool LogFile::InPlace() const {
  const auto named = FactsAt(AT_FDCWD, path_);
  const auto open = Facts();
  return named && open && named->id == open->id;
}

bool LogFile::AtLineStart(uint64_t size) const {
  char last = '\n';
  return size == 0 || pread(file_.get(), &last, 1, static_cast<off_t>(size - 1)) != 1 || last == '\n';
}

bool LogFile::HasRoom(uint64_t size) const {
  constexpr off_t kProbeBytes = 4096;
  return fallocate(file_.get(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(size), kProbeBytes) == 0 ||
         errno == EOPNOTSUPP || errno == ENOSYS;
}

LogFile::Moved LogFile::SpliceFrom(int pipe, uint64_t bytes, uint64_t at) const {
  auto offset = static_cast<off64_t>(at);
  ssize_t moved = 0;
  do {
    moved = splice(pipe, nullptr, file_.get(), &offset, bytes, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  } while (moved < 0 && errno == EINTR);
  if (moved < 0) {
    return {0, errno == EAGAIN ? 0 : errno};
  }
  return {static_cast<uint64_t>(moved), 0};
}

LogFile::Moved LogFile::Write(std::string_view bytes, uint64_t at) const {
  uint64_t written = 0;
  while (written < bytes.size()) {
    const ssize_t n =
        pwrite(file_.get(), bytes.data() + written, bytes.size() - written, static_cast<off_t>(at + written));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return {written, written > 0 ? 0 : errno};
    }
    written += static_cast<uint64_t>(n);
  }
  return {written, 0};
}

absl::Status LogFile::Rotate(int max_files) {
  absl::StatusOr<UniqueFd> directory = OpenDirectory();
  if (!directory.ok()) {
    return directory.status();
  }
  // Somebody else renamed it already, or put another file in its place: then that one is not ours to rename.
  const auto named = FactsAt(directory->get(), base_);
  const auto open = Facts();
  if (named && open && named->id == open->id) {
    if (absl::Status shifted = ShiftRotatedFiles(directory->get(), directory_, base_, max_files); !shifted.ok()) {
      return shifted;
    }
  }
  file_.Reset();
  return absl::OkStatus();
}

}  // namespace supervisor
