#include "daemon/startup/file_claims.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>

#include "common/atomic_file.h"
#include "common/diag_log.h"
#include "common/errno_status.h"
#include "daemon/guardian/keeper.h"
#include "daemon/startup/lock.h"

namespace supervisor {
namespace {

constexpr std::string_view kPrefix = ".supervisord-";
constexpr std::string_view kSuffix = ".claims";
constexpr size_t kMostText = 16 << 20;

// One directory under two names is one.
std::map<std::string, std::vector<std::string>> ByDirectory(const std::vector<std::string>& paths) {
  std::map<std::string, std::vector<std::string>> names;
  std::map<std::string, std::string> real_paths;
  for (const std::string& path : paths) {
    const size_t slash = path.rfind('/');
    const std::string directory = slash == 0 ? "/" : path.substr(0, slash);
    const auto [known, is_new] = real_paths.emplace(directory, directory);
    if (is_new) {
      std::error_code error;
      const std::filesystem::path real = std::filesystem::canonical(directory, error);
      known->second = error ? directory : real.string();
    }
    names[known->second].push_back(path.substr(slash + 1));
  }
  return names;
}

// So that of two that start together one sees the other. Not for long: others lock directories too (tmpfiles.d(5)).
UniqueFd LockDirectory(const std::string& directory) {
  constexpr int kTries = 100;
  constexpr int kTryEveryMs = 10;
  UniqueFd fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int i = 0; fd && i < kTries && flock(fd.get(), LOCK_EX | LOCK_NB) != 0; ++i) {
    poll(nullptr, 0, kTryEveryMs);
  }
  return fd;
}

struct Others {
  std::string socket;
  std::string pid;
  std::set<std::string> names;
};

// Nothing where the file is left over, or says nothing that is to be believed.
std::optional<Others> ReadClaims(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  struct stat info {};
  // Anybody may write to some directories; only root and we ourselves say what keeps us from starting.
  if (!fd || fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode) || (info.st_uid != 0 && info.st_uid != geteuid())) {
    return std::nullopt;
  }
  if (flock(fd.get(), LOCK_SH | LOCK_NB) == 0) {
    unlink(path.c_str());
    return std::nullopt;
  }
  const absl::StatusOr<std::string> text = ReadWholeFile(path, kMostText);
  Others others;
  std::istringstream lines(text.value_or(""));
  for (std::string line; std::getline(lines, line);) {
    const size_t space = std::min(line.find(' '), line.size());
    const std::string value = line.substr(std::min(space + 1, line.size()));
    if (line.starts_with("socket ")) {
      others.socket = value;
    } else if (line.starts_with("pid ")) {
      others.pid = value;
    } else if (line.starts_with("file ")) {
      others.names.insert(value);
    }
  }
  return others;
}

std::string Listed(const std::vector<std::string>& names) {
  constexpr size_t kMost = 3;
  std::string text;
  for (size_t i = 0; i < names.size() && i < kMost; ++i) {
    text += (i == 0 ? "" : ", ") + names[i];
  }
  return names.size() > kMost ? fmt::format("{} and {} more", text, names.size() - kMost) : text;
}

// REQUIRES: the directory is locked, if it can be.
absl::Status FindClash(const std::string& directory, const std::vector<std::string>& names, const std::string& own) {
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix) || entry->path().string() == own) {
      continue;
    }
    const std::optional<Others> others = ReadClaims(entry->path().string());
    std::vector<std::string> both;
    if (others) {
      std::ranges::copy_if(names, std::back_inserter(both),
                           [&](const std::string& file) { return others->names.contains(file); });
    }
    if (!both.empty()) {
      return absl::AlreadyExistsError(fmt::format(
          "{}: {} belong{} to another supervisord (pid {}, socket {}): give each supervisord directories of "
          "its own (global.pid_directory, global.log_directory, global.database), or its services other ids",
          directory, Listed(both), both.size() == 1 ? "s" : "", others->pid, others->socket));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string FileClaims::PathIn(const std::string& directory) const {
  return fmt::format("{}/{}{:016x}{}", directory, kPrefix, std::hash<std::string>()(socket_), kSuffix);
}

absl::Status FileClaims::Check(const std::vector<std::string>& paths) const {
  for (const auto& [directory, names] : ByDirectory(paths)) {
    const UniqueFd lock = LockDirectory(directory);
    if (absl::Status status = FindClash(directory, names, PathIn(directory)); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

// The file is written in place: its lock is what counts, and a new file would be without.
absl::Status FileClaims::Write(const std::string& directory, const std::vector<std::string>& names, pid_t pid) {
  const std::string path = PathIn(directory);
  UniqueFd& file = files_[directory];
  if (!file) {
    file = held_.TakeFile(std::string(kHeldClaimPrefix) + path);  // of the daemon before this one
  }
  if (!file || !IsNamed(file.get(), path)) {
    // Ours alone, whoever still has it locked: the keeper of a supervisor on the same socket, on its way out.
    unlink(path.c_str());
    // For reading: a file that is open for writing keeps an administrator from making its file system read-only.
    file.Reset(open(path.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
    if (!file || flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
      return ErrnoToStatus(errno, path);
    }
  }
  std::string text = fmt::format("socket {}\npid {}\n", socket_, pid);
  for (const std::string& name : names) {
    text += fmt::format("file {}\n", name);
  }
  const UniqueFd writer(open(path.c_str(), O_WRONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!writer || write(writer.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      ftruncate(writer.get(), static_cast<off_t>(text.size())) != 0) {
    return ErrnoToStatus(errno, path);
  }
  return held_.Keep(std::string(kHeldClaimPrefix) + path, file.get());
}

absl::Status FileClaims::Claim(const std::vector<std::string>& paths, pid_t pid, bool anyway) {
  absl::Status clash;
  const std::map<std::string, std::vector<std::string>> by_directory = ByDirectory(paths);
  std::vector<UniqueFd> locks;  // in the order of their names, as every supervisor takes them
  for (const auto& [directory, names] : by_directory) {
    locks.push_back(LockDirectory(directory));
    clash.Update(FindClash(directory, names, PathIn(directory)));
  }
  if (!clash.ok() && !anyway) {
    return clash;
  }
  for (const auto& [directory, names] : by_directory) {
    if (const absl::Status status = Write(directory, names, pid); !status.ok()) {
      LogWarning("another supervisord would not notice that these files are in use",
                 {{"directory", directory}, {"error", std::string(status.message())}});
    }
  }
  return clash;
}

void FileClaims::Release() {
  for (const auto& [directory, file] : files_) {
    if (const std::string path = PathIn(directory); file && IsNamed(file.get(), path)) {
      unlink(path.c_str());
    }
  }
  files_.clear();
}

}  // namespace supervisor
