#include "daemon/startup/private_place.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <set>

#include "common/errno_status.h"
#include "common/shell_word.h"
#include "common/trusted_path.h"
#include "daemon/process/spawn.h"

namespace supervisor {
namespace {

bool IsOwn(uid_t uid) { return uid == 0 || uid == geteuid(); }

}  // namespace

absl::Status MakeRuntimeDirectory(const std::string& path, FileTrust trust) {
  TrustRule rule = OwnTrust(trust);
  rule.advice =
      "make it this user's alone or remove it, or keep the runtime files elsewhere: global.socket, or XDG_RUNTIME_DIR "
      "for the default place";
  const absl::StatusOr<UniqueFd> directory = MakeTrustedDirectory(path, 0755, rule);
  if (!directory.ok()) {
    return {directory.status().code(), fmt::format("runtime directory {}", std::string(directory.status().message()))};
  }
  rule.level = FileTrust::kStrict;
  if (const std::optional<PathProblem> problem = JudgeOpenFile(directory->get(), path, rule)) {
    return absl::FailedPreconditionError(fmt::format("runtime directory {}: {}", path, problem->what));
  }
  return absl::OkStatus();
}

absl::Status MakePrivateDirectory(const std::string& path, mode_t mode) {
  const std::string context = fmt::format("runtime directory {}", path);
  if (mkdir(path.c_str(), mode) != 0 && errno != EEXIST) {
    return ErrnoToStatus(errno, context);
  }
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat info {};
  if (!fd || fstat(fd.get(), &info) != 0) {
    const int error = errno;
    if (lstat(path.c_str(), &info) != 0 || S_ISDIR(info.st_mode)) {
      return ErrnoToStatus(error, context);
    }
    return absl::FailedPreconditionError(
        fmt::format("{}: not a directory of ours (uid {}): somebody put it there (run: "
                    "rm {})",
                    context, info.st_uid, ShellWord(path)));
  }
  if (info.st_uid != geteuid()) {
    return absl::FailedPreconditionError(
        fmt::format("{}: not a directory of ours (uid {}): somebody put it there (run: rm -r {})", context, info.st_uid,
                    ShellWord(path)));
  }
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return absl::FailedPreconditionError(fmt::format(
        "{}: others may write in it (mode {:04o}) and so could tell a daemon what to do (look at what is in "
        "it, then run: chmod go-w {}, or remove it)",
        context, info.st_mode & 07777U, ShellWord(path)));
  }
  return fchmod(fd.get(), mode) == 0 ? absl::OkStatus() : ErrnoToStatus(errno, context);
}

absl::Status CheckOwner(int fd, const std::string& path) {
  struct stat info {};
  if (fstat(fd, &info) != 0) {
    return ErrnoToStatus(errno, path);
  }
  return IsOwn(info.st_uid) ? absl::OkStatus()
                            : absl::FailedPreconditionError(
                                  fmt::format("{} belongs to uid {}: somebody else put it there (run: rm {})", path,
                                              info.st_uid, ShellWord(path)));
}

absl::Status MakePidDirectory(const Config& config, FileTrust trust) {
  TrustRule rule = OwnTrust(trust);
  std::set<std::string> users;
  for (const auto& [id, service] : config.services) {
    users.insert(service.user);
  }
  if (users.size() == 1 && !users.begin()->empty()) {
    if (const absl::StatusOr<SpawnRequest::Credentials> user = LookUpCredentials(*users.begin(), ""); user.ok()) {
      AddTrusted(user->uid, rule);
    }
  }
  rule.harm = "say which pids the services have";
  rule.advice = "make it this user's or the services' user's alone or remove it, or set global.pid_directory";
  const absl::StatusOr<UniqueFd> directory = MakeTrustedDirectory(config.global.pid_directory, 0755, rule);
  if (directory.ok()) {
    return absl::OkStatus();
  }
  const std::string why(directory.status().message());
  const bool is_distrusted = why.find(rule.advice) != std::string::npos;
  return {directory.status().code(),
          fmt::format("global.pid_directory {}{}", why,
                      is_distrusted ? "" : "; name a directory there that can be written to")};
}

}  // namespace supervisor
