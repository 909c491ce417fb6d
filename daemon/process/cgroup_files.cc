#include "daemon/process/cgroup_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <functional>
#include <memory>
#include <sstream>

#include "common/errno_status.h"
#include "common/unique_fd.h"

namespace supervisor {
namespace {

void ForEachChild(const std::string& path, const std::function<void(const std::string&)>& act) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(path.c_str()), closedir);
  while (directory != nullptr) {
    const dirent* entry = readdir(directory.get());  // NOLINT(concurrency-mt-unsafe): the stream is our own
    if (entry == nullptr) {
      return;
    }
    if (entry->d_type == DT_DIR && entry->d_name[0] != '.') {
      act(fmt::format("{}/{}", path, entry->d_name));
    }
  }
}

}  // namespace

std::string ReadCgroupFile(const std::string& path) {
  std::string text;
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char buffer[4096];
  for (ssize_t got = 0; fd && (got = read(fd.get(), buffer, sizeof(buffer))) > 0;) {
    text.append(buffer, static_cast<size_t>(got));
  }
  return text;
}

absl::Status WriteCgroupFile(const std::string& path, std::string_view value) {
  const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (fd && write(fd.get(), value.data(), value.size()) == static_cast<ssize_t>(value.size())) {
    return absl::OkStatus();
  }
  return ErrnoToStatus(errno, fmt::format("writing \"{}\" to {}", value, path));
}

void ParsePids(std::string_view text, std::vector<pid_t>& pids) {
  for (std::string_view rest = text; !rest.empty();) {
    pid_t pid = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), pid);
    if (error == std::errc()) {
      pids.push_back(pid);
    }
    const size_t line = rest.find('\n');
    rest.remove_prefix(line == std::string_view::npos ? rest.size() : line + 1);
  }
}

size_t CountChildCgroups(const std::string& path) {
  // The kernel counts a cgroup's children in its link count, as in any directory's: two of its own, and one a child.
  constexpr nlink_t kOwnLinks = 2;
  struct stat info {};
  return stat(path.c_str(), &info) == 0 && info.st_nlink > kOwnLinks ? info.st_nlink - kOwnLinks : 0;
}

void RemoveCgroupTree(const std::string& path) {
  if (rmdir(path.c_str()) == 0 || errno != EBUSY) {
    return;
  }
  // A service may have made cgroups below its own; empty ones go with it.
  ForEachChild(path, RemoveCgroupTree);
  rmdir(path.c_str());
}

void MakeCgroupHabitable(const std::string& path) {
  if (CountChildCgroups(path) == 0) {
    return;
  }
  ForEachChild(path, RemoveCgroupTree);
  std::istringstream handed_on(ReadCgroupFile(path + "/cgroup.subtree_control"));
  for (std::string controller; handed_on >> controller;) {
    // What is still in use below stays, and the start that follows says what that leads to.
    WriteCgroupFile(path + "/cgroup.subtree_control", "-" + controller).IgnoreError();
  }
}

}  // namespace supervisor
