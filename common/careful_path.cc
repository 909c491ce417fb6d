#include "common/careful_path.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <string_view>
#include <utility>

#include "common/errno_status.h"

namespace supervisor {
namespace {

constexpr int kMostLinks = 40;  // as the kernel has it: path_resolution(7)
constexpr mode_t kDirectoryMode = 0755;
constexpr int kOpenFlags = O_PATH | O_NOFOLLOW | O_CLOEXEC;

bool IsTrusted(uid_t owner) { return owner == 0 || owner == geteuid(); }

// The next component, taken off the front of `rest`; empty at the end.
std::string TakeComponent(std::string& rest) {
  const size_t begin = rest.find_first_not_of('/');
  if (begin == std::string::npos) {
    rest.clear();
    return "";
  }
  const size_t end = std::min(rest.find('/', begin), rest.size());
  std::string component = rest.substr(begin, end - begin);
  rest.erase(0, end);
  return component;
}

// Where no link is on the way, as nearly always, the kernel walks as we would: openat2(2), Linux 5.6.
UniqueFd OpenWithoutLinks(const std::string& path) {
  open_how how{};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_NO_SYMLINKS;
  return UniqueFd(static_cast<int>(syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof(how))));
}

UniqueFd OpenStart(std::string_view path) {
  return UniqueFd(open(path.starts_with('/') ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
}

}  // namespace

absl::StatusOr<UniqueFd> OpenDirectoryCarefully(const std::string& path, IfMissing if_missing) {
  if (UniqueFd direct = OpenWithoutLinks(path)) {
    return direct;
  }
  std::string rest = path;
  UniqueFd at = OpenStart(rest);
  int links = 0;
  for (std::string name = TakeComponent(rest); at && !name.empty(); name = TakeComponent(rest)) {
    UniqueFd next(openat(at.get(), name.c_str(), kOpenFlags));
    if (!next && errno == ENOENT && if_missing == IfMissing::kMake) {
      mkdirat(at.get(), name.c_str(), kDirectoryMode);  // what fails, or is made by another meanwhile, shows next
      next.Reset(openat(at.get(), name.c_str(), kOpenFlags));
    }
    struct stat status {};
    if (!next || fstat(next.get(), &status) != 0) {
      return ErrnoToStatus(errno, path);
    }
    if (!S_ISLNK(status.st_mode)) {
      if (!S_ISDIR(status.st_mode)) {
        return ErrnoToStatus(ENOTDIR, path);
      }
      at = std::move(next);
      continue;
    }
    if (!IsTrusted(status.st_uid)) {
      return absl::FailedPreconditionError(
          fmt::format("{}: \"{}\" in it is a symbolic link that user {} made, and is not followed; remove it, or name "
                      "the place that is meant",
                      path, name, status.st_uid));
    }
    if (++links > kMostLinks) {
      return ErrnoToStatus(ELOOP, path);
    }
    std::array<char, PATH_MAX> target{};
    const ssize_t length = readlinkat(next.get(), "", target.data(), target.size());
    if (length <= 0) {
      return ErrnoToStatus(length < 0 ? errno : ENOENT, path);
    }
    rest.insert(0, std::string(target.data(), static_cast<size_t>(length)) + "/");
    if (target[0] == '/') {
      at = OpenStart("/");
    }
  }
  if (!at) {
    return ErrnoToStatus(errno, path);
  }
  return at;
}

absl::Status CheckDirectoryOwner(int directory_fd, const std::string& what, const std::string& path,
                                 std::optional<uid_t> service_uid) {
  struct stat status {};
  if (fstat(directory_fd, &status) != 0) {
    return ErrnoToStatus(errno, path);
  }
  if (geteuid() != 0 || IsTrusted(status.st_uid) || service_uid == status.st_uid) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      fmt::format("{} {}: belongs to user {}, who is neither root nor the service's user, and could read or exchange "
                  "what is kept there; give it to root (chown root), remove it, or name another one",
                  what, path, status.st_uid));
}

}  // namespace supervisor
