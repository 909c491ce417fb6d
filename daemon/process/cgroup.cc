#include "daemon/process/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <string_view>

#include "common/errno_status.h"

namespace supervisor {
namespace {

// The mount point of the v2 hierarchy, from /proc/self/mountinfo (proc(5)); empty where there is none.
std::string FindMountPoint() {
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    const size_t separator = line.find(" - cgroup2 ");
    if (separator == std::string::npos) {
      continue;
    }
    std::istringstream fields(line.substr(0, separator));
    std::string field;
    for (int i = 0; i < 5; ++i) {
      fields >> field;
    }
    return field;
  }
  return {};
}

// Our own place in it: the line "0::/path" of /proc/self/cgroup (cgroups(7)).
std::string FindOwnPath() {
  std::ifstream cgroups("/proc/self/cgroup");
  for (std::string line; std::getline(cgroups, line);) {
    if (line.starts_with("0::/")) {
      return line.substr(3);
    }
  }
  return {};
}

std::string ReadFile(const std::string& path) {
  std::string text;
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char buffer[4096];
  for (ssize_t got = 0; fd && (got = read(fd.get(), buffer, sizeof(buffer))) > 0;) {
    text.append(buffer, static_cast<size_t>(got));
  }
  return text;
}

// The kernel counts a cgroup's children in its link count, as in any directory's: two of its own, and one a child.
bool HasChildren(const std::string& path) {
  constexpr nlink_t kOwnLinks = 2;
  struct stat info {};
  return stat(path.c_str(), &info) != 0 || info.st_nlink > kOwnLinks;
}

void ParsePids(const std::string& text, std::vector<pid_t>& pids) {
  std::string_view rest = text;
  while (!rest.empty()) {
    pid_t pid = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), pid);
    if (error == std::errc()) {
      pids.push_back(pid);
    }
    rest.remove_prefix(std::min(rest.size(), rest.find('\n') + 1));
  }
}

void CollectPids(const std::string& path, std::vector<pid_t>& pids) {
  ParsePids(ReadFile(path + "/cgroup.procs"), pids);
  if (!HasChildren(path)) {
    return;
  }
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(path.c_str()), closedir);
  while (directory != nullptr) {
    const dirent* entry = readdir(directory.get());  // NOLINT(concurrency-mt-unsafe): the stream is our own
    if (entry == nullptr) {
      break;
    }
    if (entry->d_type == DT_DIR && entry->d_name[0] != '.') {
      CollectPids(fmt::format("{}/{}", path, entry->d_name), pids);
    }
  }
}

void RemoveTree(const std::string& path) {
  if (rmdir(path.c_str()) == 0 || errno != EBUSY) {
    return;
  }
  // A service may have made cgroups below its own; empty ones go with it.
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(path.c_str()), closedir);
  while (directory != nullptr) {
    const dirent* entry = readdir(directory.get());  // NOLINT(concurrency-mt-unsafe): the stream is our own
    if (entry == nullptr) {
      break;
    }
    if (entry->d_type == DT_DIR && entry->d_name[0] != '.') {
      RemoveTree(fmt::format("{}/{}", path, entry->d_name));
    }
  }
  rmdir(path.c_str());
}

}  // namespace

Cgroup::Cgroup(std::string path, UniqueFd procs_fd) : path_(std::move(path)), procs_fd_(std::move(procs_fd)) {}

Cgroup::~Cgroup() { RemoveTree(path_); }

bool Cgroup::Populated() const { return ReadFile(path_ + "/cgroup.events").find("populated 1") != std::string::npos; }

std::vector<pid_t> Cgroup::Pids() const {
  std::vector<pid_t> pids;
  if (HasChildren(path_)) {
    CollectPids(path_, pids);
    return pids;
  }
  if (!listing_fd_) {
    listing_fd_.Reset(open((path_ + "/cgroup.procs").c_str(), O_RDONLY | O_CLOEXEC));
  }
  std::string text;
  char buffer[4096];
  for (ssize_t got = 0;
       (got = pread(listing_fd_.get(), buffer, sizeof(buffer), static_cast<off_t>(text.size()))) > 0;) {
    text.append(buffer, static_cast<size_t>(got));
    if (static_cast<size_t>(got) < sizeof(buffer) / 2) {
      break;  // the kernel fills the buffer as long as there is more
    }
  }
  ParsePids(text, pids);
  return pids;
}

bool Cgroup::Kill() const {
  const UniqueFd fd(open((path_ + "/cgroup.kill").c_str(), O_WRONLY | O_CLOEXEC));
  return fd && write(fd.get(), "1", 1) == 1;
}

std::unique_ptr<CgroupRoot> CgroupRoot::Detect(const std::string& name) {
  const std::string mount = FindMountPoint();
  std::string own = FindOwnPath();
  if (mount.empty() || own.empty()) {
    return nullptr;
  }
  // A daemon that was started by one of its predecessors' services would nest ever deeper otherwise.
  if (const size_t nested = own.find("/supervisord."); nested != std::string::npos) {
    own.resize(nested);
  }
  const std::string path = fmt::format("{}{}/supervisord.{}", mount, own == "/" ? "" : own, name);
  if (mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) {
    return nullptr;
  }
  std::unique_ptr<CgroupRoot> root(new CgroupRoot(path));
  // A directory that can be made is not yet one that processes may be moved into (delegation: cgroups(7)).
  if (access((path + "/cgroup.procs").c_str(), W_OK) != 0) {
    return nullptr;
  }
  return root;
}

CgroupRoot::~CgroupRoot() { rmdir(path_.c_str()); }

absl::StatusOr<std::unique_ptr<Cgroup>> CgroupRoot::Create(const std::string& instance_id) const {
  const std::string path = fmt::format("{}/{}", path_, instance_id);
  if (mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) {
    return ErrnoToStatus(errno, fmt::format("cgroup {}", path));
  }
  UniqueFd procs_fd(open((path + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
  if (!procs_fd) {
    return ErrnoToStatus(errno, fmt::format("cgroup {}/cgroup.procs", path));
  }
  return std::unique_ptr<Cgroup>(new Cgroup(path, std::move(procs_fd)));
}

}  // namespace supervisor
