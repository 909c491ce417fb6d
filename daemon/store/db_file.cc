#include "daemon/store/db_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <deque>
#include <string_view>
#include <vector>

#include "common/errno_status.h"
#include "common/time_format.h"
#include "common/unique_fd.h"

namespace supervisor {
namespace {

constexpr mode_t kDirectoryMode = 0750;
constexpr mode_t kFileMode = 0640;
constexpr int kMostLinks = 40;  // as the kernel: path_resolution(7)

std::vector<std::string> Components(std::string_view path) {
  std::vector<std::string> parts;
  size_t at = 0;
  while (at < path.size()) {
    const size_t slash = std::min(path.find('/', at), path.size());
    if (slash > at) {
      parts.emplace_back(path.substr(at, slash - at));
    }
    at = slash + 1;
  }
  return parts;
}

absl::StatusOr<std::string> CurrentDirectory() {
  std::array<char, PATH_MAX> buffer{};
  if (getcwd(buffer.data(), buffer.size()) == nullptr) {
    return ErrnoToStatus(errno, "current directory");
  }
  return std::string(buffer.data());
}

absl::StatusOr<std::string> ReadLink(const std::string& path) {
  std::array<char, PATH_MAX> buffer{};
  const ssize_t size = readlink(path.c_str(), buffer.data(), buffer.size());
  if (size < 0) {
    return ErrnoToStatus(errno, fmt::format("symbolic link {}", path));
  }
  return std::string(buffer.data(), static_cast<size_t>(size));
}

// A directory step by step, as the kernel goes, but looking at who made each link.
class DirectoryWalk {
 public:
  absl::StatusOr<std::string> Resolve(std::string_view directory) {
    Prepend(directory);
    while (!todo_.empty()) {
      const std::string part = todo_.front();
      todo_.pop_front();
      if (part == ".") {
        continue;
      }
      if (part == "..") {
        resolved_.resize(resolved_.empty() ? 0 : resolved_.rfind('/'));
        continue;
      }
      if (absl::Status status = Enter(resolved_ + "/" + part); !status.ok()) {
        return status;
      }
    }
    return resolved_;
  }

 private:
  void Prepend(std::string_view path) {
    const std::vector<std::string> parts = Components(path);
    todo_.insert(todo_.begin(), parts.begin(), parts.end());
    if (path.starts_with('/')) {
      resolved_.clear();
    }
  }

  absl::Status Enter(const std::string& path) {
    struct stat info {};
    if (lstat(path.c_str(), &info) != 0) {
      if (errno != ENOENT) {
        return ErrnoToStatus(errno, fmt::format("database directory {}", path));
      }
      if (mkdir(path.c_str(), kDirectoryMode) != 0 && errno != EEXIST) {
        return ErrnoToStatus(errno, fmt::format("database directory {}: cannot be made", path));
      }
      if (lstat(path.c_str(), &info) != 0) {
        return ErrnoToStatus(errno, fmt::format("database directory {}", path));
      }
    }
    if (S_ISLNK(info.st_mode)) {
      return Follow(path, info.st_uid);
    }
    if (!S_ISDIR(info.st_mode)) {
      return ErrnoToStatus(ENOTDIR, fmt::format("database directory {}", path));
    }
    resolved_ = path;
    return absl::OkStatus();
  }

  absl::Status Follow(const std::string& path, uid_t owner) {
    if (owner != 0 && owner != geteuid()) {
      return absl::PermissionDeniedError(
          fmt::format("database directory {}: is a symbolic link of uid {}, which is not followed; remove it or "
                      "choose another \"database\"",
                      path, owner));
    }
    if (++links_ > kMostLinks) {
      return ErrnoToStatus(ELOOP, fmt::format("database directory {}", path));
    }
    absl::StatusOr<std::string> target = ReadLink(path);
    if (!target.ok()) {
      return target.status();
    }
    Prepend(*target);
    return absl::OkStatus();
  }

  std::deque<std::string> todo_;
  std::string resolved_;  // "" is the root
  int links_ = 0;
};

absl::Status WhyNotAFile(const std::string& path, mode_t mode) {
  if (S_ISLNK(mode)) {
    return absl::PermissionDeniedError(fmt::format(
        "database {}: is a symbolic link, which is not followed; remove it or choose another \"database\"", path));
  }
  const std::string_view kind = S_ISDIR(mode) ? "a directory" : "not a regular file";
  return absl::FailedPreconditionError(
      fmt::format("database {}: is {}; remove it or choose another \"database\"", path, kind));
}

}  // namespace

absl::StatusOr<std::string> ResolveDatabasePath(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string name = path.substr(slash == std::string::npos ? 0 : slash + 1);
  if (name.empty() || name == "." || name == "..") {
    return absl::InvalidArgumentError(fmt::format("database \"{}\": is no file name", path));
  }
  std::string directory = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  if (!directory.starts_with('/')) {
    absl::StatusOr<std::string> here = CurrentDirectory();
    if (!here.ok()) {
      return here.status();
    }
    directory = *here + "/" + directory;
  }
  absl::StatusOr<std::string> resolved = DirectoryWalk().Resolve(directory);
  if (!resolved.ok()) {
    return resolved.status();
  }
  return *resolved + "/" + name;
}

absl::StatusOr<FileIdentity> CreateDatabaseFile(const std::string& path, const std::optional<DbFileAccess>& access) {
  struct stat info {};
  if (lstat(path.c_str(), &info) == 0) {
    if (!S_ISREG(info.st_mode)) {
      return WhyNotAFile(path, info.st_mode);
    }
    return FileIdentity{info.st_dev, info.st_ino};
  }
  if (errno != ENOENT) {
    return ErrnoToStatus(errno, fmt::format("database {}", path));
  }
  // What a deleted database leaves behind means nothing to a new one; SQLite would share the old -shm with whoever
  // still has the old file open.
  unlink((path + "-wal").c_str());
  unlink((path + "-shm").c_str());
  const UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kFileMode));
  if (!fd) {
    return ErrnoToStatus(errno, fmt::format("database {}: cannot be made", path));
  }
  // -wal and -shm take their mode from this file. The umask of whoever started us has no say in who may read.
  if (access.has_value() && fchown(fd.get(), access->owner, access->group) != 0 && errno != EPERM) {
    return ErrnoToStatus(errno, fmt::format("database {}", path));
  }
  if (fchmod(fd.get(), access.has_value() ? access->mode : kFileMode) != 0 || fstat(fd.get(), &info) != 0) {
    return ErrnoToStatus(errno, fmt::format("database {}", path));
  }
  return FileIdentity{info.st_dev, info.st_ino};
}

std::optional<DbFileAccess> AccessOf(const std::string& path) {
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return std::nullopt;
  }
  return DbFileAccess{info.st_uid, info.st_gid, info.st_mode & 0777};
}

void MatchSideFiles(const std::string& path, const DbFileAccess& access) {
  for (const std::string_view suffix : {"-wal", "-shm"}) {
    const std::string name = fmt::format("{}{}", path, suffix);
    if (const std::optional<DbFileAccess> found = AccessOf(name); !found.has_value() || *found == access) {
      continue;
    }
    // O_PATH: closing any other descriptor of the file would drop SQLite's locks on it.
    const UniqueFd fd(open(name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    struct stat info {};
    if (!fd || fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_nlink != 1) {
      continue;
    }
    const std::string link = fmt::format("/proc/self/fd/{}", fd.get());
    // An ordinary user's daemon may not give files away; then the mode alone follows.
    if (chown(link.c_str(), access.owner, access.group) == 0 || errno == EPERM) {
      chmod(link.c_str(), access.mode);
    }
  }
}

std::optional<FileIdentity> IdentifyFile(const std::string& path) {
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) {
    return std::nullopt;
  }
  return FileIdentity{info.st_dev, info.st_ino};
}

absl::StatusOr<std::string> SetDatabaseAside(const std::string& path, absl::Time now) {
  std::string stamp = FormatTimestamp(now).substr(0, 19);
  std::erase_if(stamp, [](char c) { return c < '0' || c > '9'; });
  const std::string first = fmt::format("{}.malformed-{}", path, stamp);
  std::string kept = first;
  for (int i = 2; IdentifyFile(kept).has_value(); ++i) {
    kept = fmt::format("{}-{}", first, i);
  }
  // The database last: until then a crash leaves it where the next start sets it aside again, and never the log of a
  // malformed database beside a new one.
  for (const std::string_view suffix : {"-wal", "-shm", ""}) {
    const std::string from = fmt::format("{}{}", path, suffix);
    const std::string to = fmt::format("{}{}", kept, suffix);
    if (rename(from.c_str(), to.c_str()) != 0 && errno != ENOENT) {
      return ErrnoToStatus(errno, fmt::format("database {}: is malformed, and cannot be renamed to {}", from, to));
    }
  }
  return kept;
}

}  // namespace supervisor
