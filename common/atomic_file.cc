#include "common/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <system_error>

#include "common/errno_status.h"
#include "common/fail_point.h"
#include "common/unique_fd.h"

namespace supervisor {
namespace {

absl::Status WriteAll(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t written = write(fd, content.data(), content.size());
    if (written < 0 && errno != EINTR) {
      return ErrnoToStatus(errno, path);
    }
    content.remove_prefix(static_cast<size_t>(std::max<ssize_t>(written, 0)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteFileAtomically(const std::string& path, std::string_view content, mode_t mode) {
  static std::atomic<unsigned> counter{0};
  const std::string temporary = fmt::format("{}.{}.{}.tmp", path, getpid(), ++counter);
  UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) {
    return ErrnoToStatus(errno, path);
  }
  absl::Status status = WriteAll(fd.get(), content, path);
  // By fchmod, for the umask has no say in what the contract promises.
  if (status.ok() && fchmod(fd.get(), mode) != 0) {
    status = ErrnoToStatus(errno, path);
  }
  if (const int error = FailPoint(FailPointId::kFileWritten); error != 0 && status.ok()) {
    status = ErrnoToStatus(error, path);
  }
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) {
    status = ErrnoToStatus(errno, path);
  }
  FailPoint(FailPointId::kFileRenamed);
  if (!status.ok()) {
    unlink(temporary.c_str());
  }
  return status;
}

absl::Status WritePage(const std::string& path, std::string_view content, mode_t mode) {
  struct stat info {};
  UniqueFd fd;
  if (content.size() == kPageSize) {
    fd.Reset(open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC));
  }
  if (!fd || fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_nlink != 1 ||
      (info.st_mode & 07777) != mode || info.st_uid != geteuid() || info.st_size != off_t{kPageSize}) {
    return WriteFileAtomically(path, content, mode);
  }
  if (const int error = FailPoint(FailPointId::kFileWritten); error != 0) {
    return ErrnoToStatus(error, path);
  }
  if (pwrite(fd.get(), content.data(), content.size(), 0) != ssize_t{kPageSize}) {
    return WriteFileAtomically(path, content, mode);
  }
  FailPoint(FailPointId::kFileRenamed);
  return absl::OkStatus();
}

namespace {

// Takes ".DIGITS" off the end and returns the digits; empty where there are none.
std::string TakeNumber(std::string& name) {
  const size_t dot = name.find_last_not_of("0123456789");
  if (dot == std::string::npos || dot == 0 || name[dot] != '.' || dot + 1 == name.size()) {
    return {};
  }
  std::string digits = name.substr(dot + 1);
  name.resize(dot);
  return digits;
}

}  // namespace

void RemoveLeftTemporaries(const std::string& directory, const std::function<bool(const std::string& name)>& is_ours) {
  constexpr std::string_view kSuffix = ".tmp";
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    std::string name = entry->path().filename().string();  // NAME.PID.COUNT.tmp, as above
    if (!name.ends_with(kSuffix)) {
      continue;
    }
    name.resize(name.size() - kSuffix.size());
    const std::string count = TakeNumber(name);
    const std::string pid = TakeNumber(name);
    if (!count.empty() && !pid.empty() && pid != fmt::format("{}", getpid()) && is_ours(name)) {
      unlink(entry->path().c_str());
    }
  }
}

absl::StatusOr<std::string> ReadWholeFile(const std::string& path, size_t most) {
  // Non-blocking, for a FIFO in its place must not hold us up.
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  return fd ? ReadWholeFile(fd.get(), path, most) : ErrnoToStatus(errno, path);
}

absl::StatusOr<std::string> ReadOwnFile(const std::string& path, size_t most) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW));
  struct stat info {};
  if (!fd || fstat(fd.get(), &info) != 0) {
    return ErrnoToStatus(errno, path);
  }
  if ((info.st_uid != geteuid() && info.st_uid != 0) || (info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return absl::FailedPreconditionError(
        fmt::format("{}: belongs to uid {}, mode {:04o}: others could have written it, so it is not read (remove it)",
                    path, info.st_uid, info.st_mode & 07777U));
  }
  return ReadWholeFile(fd.get(), path, most);
}

absl::StatusOr<std::string> ReadWholeFile(int fd, const std::string& path, size_t most) {
  struct stat info {};
  if (fstat(fd, &info) != 0) {
    return ErrnoToStatus(errno, path);
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(fmt::format("{}: not a regular file", path));
  }
  std::string content;
  char buffer[16384];
  for (;;) {
    const ssize_t got = read(fd, buffer, sizeof(buffer));
    if (got < 0) {
      if (errno == EINTR) {
        continue;
      }
      return ErrnoToStatus(errno, path);
    }
    if (got == 0) {
      return content;
    }
    content.append(buffer, static_cast<size_t>(got));
    if (content.size() > most) {
      return absl::OutOfRangeError(fmt::format("{}: larger than {} bytes", path, most));
    }
  }
}

absl::Status MakeDirectories(const std::string& path, mode_t mode) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    if (mkdir(part.c_str(), mode) != 0 && errno != EEXIST) {
      return ErrnoToStatus(errno, fmt::format("directory {}", part));
    }
    if (slash == std::string::npos) {
      break;
    }
  }
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) {
    return ErrnoToStatus(errno, fmt::format("directory {}", path));
  }
  if (!S_ISDIR(info.st_mode)) {
    return ErrnoToStatus(ENOTDIR, fmt::format("directory {}", path));
  }
  return absl::OkStatus();
}

}  // namespace supervisor
