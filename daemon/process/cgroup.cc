#include "daemon/process/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string_view>
#include <utility>

#include "common/errno_status.h"
#include "daemon/process/cgroup_files.h"

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

std::vector<pid_t> PidsIn(const std::string& path) {
  std::vector<pid_t> pids;
  ParsePids(ReadCgroupFile(path + "/cgroup.procs"), pids);
  return pids;
}

void CollectPids(const std::string& path, std::vector<pid_t>& pids) {
  ParsePids(ReadCgroupFile(path + "/cgroup.procs"), pids);
  if (CountChildCgroups(path) == 0) {
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

bool IsMarkedDelegated(const std::string& path) {
  for (const char* attribute : {"user.delegate", "trusted.delegate"}) {
    char value[8] = {};
    if (getxattr(path.c_str(), attribute, value, sizeof(value)) == 1 && value[0] == '1') {
      return true;
    }
  }
  return false;
}

absl::Status MakeCgroupDirectory(const std::string& path) {
  return mkdir(path.c_str(), 0755) == 0 || errno == EEXIST ? absl::OkStatus()
                                                           : ErrnoToStatus(errno, fmt::format("cgroup {}", path));
}

// Each by itself: one that is refused (cpu, while a realtime process runs below) must not take the others with it.
absl::Status Enable(const std::string& path, const CgroupControllers& controllers) {
  absl::Status status;
  for (const std::string& name : controllers.Names()) {
    status.Update(WriteCgroupFile(path + "/cgroup.subtree_control", "+" + name));
  }
  return status;
}

CgroupControllers Enabled(const std::string& path) {
  return ParseControllers(ReadCgroupFile(path + "/cgroup.subtree_control"));
}

}  // namespace

Cgroup::Cgroup(std::string path, const CgroupControllers& controllers, bool is_new)
    : path_(std::move(path)), is_new_(is_new), controllers_(controllers) {}

Cgroup::~Cgroup() { RemoveCgroupTree(path_); }

bool Cgroup::Populated() const {
  // With the list at hand and nothing below, one byte of it tells.
  if (char byte = 0; listing_fd_ && CountChildCgroups(path_) == 0) {
    return pread(listing_fd_.get(), &byte, 1, 0) > 0;
  }
  return Read("cgroup.events").find("populated 1") != std::string::npos;
}

std::vector<pid_t> PidsBelow(const std::string& cgroup) {
  std::vector<pid_t> pids;
  CollectPids(cgroup, pids);
  return pids;
}

std::vector<pid_t> Cgroup::Pids() const {
  std::vector<pid_t> pids;
  if (CountChildCgroups(path_) > 0) {
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

absl::Status Cgroup::Kill() const {
  killed_ = true;
  return Write("cgroup.kill", "1");
}

void Cgroup::MakeHabitable() const { MakeCgroupHabitable(path_); }

std::string Cgroup::Read(const char* file) const { return ReadCgroupFile(fmt::format("{}/{}", path_, file)); }

absl::Status Cgroup::Write(const char* file, const std::string& value) const {
  return WriteCgroupFile(fmt::format("{}/{}", path_, file), value);
}

std::string CgroupBaseOf(const std::string& own, const std::string& name) {
  const std::string ours = "supervisord." + name;
  for (size_t begin = 1; begin < own.size();) {
    const size_t end = std::min(own.find('/', begin), own.size());
    const std::string_view part = std::string_view(own).substr(begin, end - begin);
    const bool is_last = end == own.size();
    if (part == ours || part == ours + ".daemon" ||
        (is_last && part.starts_with("supervisord.") && part.ends_with(".daemon"))) {
      return own.substr(0, begin - 1);
    }
    begin = end + 1;
  }
  return own == "/" ? "" : own;
}

std::unique_ptr<CgroupRoot> CgroupRoot::Detect(const std::string& name) {
  const std::string mount = FindMountPoint();
  const std::string own = FindOwnPath();
  if (mount.empty() || own.empty()) {
    return nullptr;
  }
  const std::string base = mount + CgroupBaseOf(own, name);
  const std::string path = fmt::format("{}/supervisord.{}", base, name);
  const bool was_there = access(path.c_str(), F_OK) == 0;
  if (!MakeCgroupDirectory(path).ok()) {
    return nullptr;
  }
  std::unique_ptr<CgroupRoot> root(new CgroupRoot(base, path, mount + (own == "/" ? "" : own), was_there));
  // A directory that can be made is not yet one that processes may be moved into (delegation: cgroups(7)).
  if (access((path + "/cgroup.procs").c_str(), W_OK) != 0) {
    return nullptr;
  }
  // What is mounted may be another part of the hierarchy than /proc speaks of (a container with the host's namespace).
  const std::vector<pid_t> neighbours = PidsIn(root->own_);
  if (std::ranges::find(neighbours, getpid()) == neighbours.end()) {
    return nullptr;
  }
  return root;
}

// Every cgroup has a type, but for the real root, to which the rule about processes does not apply.
bool CgroupRoot::IsRealRoot() const { return access((base_ + "/cgroup.type").c_str(), F_OK) != 0; }

std::string CgroupRoot::WhyNotOurs(const std::vector<pid_t>& processes, const std::vector<pid_t>& ours) const {
  const auto stranger =
      std::ranges::find_if(processes, [&](pid_t pid) { return std::ranges::find(ours, pid) == ours.end(); });
  // Seen from within, a cgroup namespace's root is "/" (cgroup_namespaces(7)).
  const bool is_namespace_root = base_ == FindMountPoint();
  if (stranger == processes.end() || is_namespace_root || IsMarkedDelegated(base_)) {
    return {};
  }
  return fmt::format("{} holds other processes too (pid {}) and is not marked as delegated (systemd: Delegate=yes)",
                     base_, *stranger);
}

// All that is in BASE, in rounds: something may be forked while we look.
absl::Status CgroupRoot::MoveToLeaf(const std::vector<pid_t>& ours) const {
  constexpr int kRounds = 20;
  std::vector<pid_t> left = PidsIn(base_);
  if (const std::string why = WhyNotOurs(left, ours); !why.empty()) {
    return absl::FailedPreconditionError(why);
  }
  absl::Status status = left.empty() ? absl::OkStatus() : MakeCgroupDirectory(leaf());
  for (int round = 0; round < kRounds && !left.empty() && status.ok(); ++round) {
    for (const pid_t pid : left) {
      const absl::Status moved = WriteCgroupFile(leaf() + "/cgroup.procs", fmt::format("{}", pid));
      if (!moved.ok() && !absl::IsNotFound(moved)) {  // it may have ended meanwhile: ESRCH
        status.Update(moved);
      }
    }
    left = PidsIn(base_);
  }
  return left.empty() ? absl::OkStatus() : status;
}

// Started by one of the services that it will adopt, a daemon would be killed with that. Best effort: where it can't
// leave, all else still works.
void CgroupRoot::LeaveServicesCgroup(const std::vector<pid_t>& ours) const {
  if (!own_.starts_with(path_ + "/")) {
    return;
  }
  const bool needs_leaf = !IsRealRoot() && MakeCgroupDirectory(leaf()).ok();
  for (const pid_t pid : ours) {
    if (pid > 0) {
      WriteCgroupFile((needs_leaf ? leaf() : base_) + "/cgroup.procs", fmt::format("{}", pid)).IgnoreError();
    }
  }
}

std::string CgroupRoot::TakeControllers(const std::vector<pid_t>& ours) {
  LeaveServicesCgroup(ours);
  const CgroupControllers all{.memory = true, .cpu = true, .pids = true};
  const CgroupControllers offered = ParseControllers(ReadCgroupFile(base_ + "/cgroup.controllers"));
  if (!offered.Any()) {
    return fmt::format("resource limits are watched: {}/cgroup.controllers offers none of memory, cpu, pids", base_);
  }
  absl::Status status;
  if (Without(offered, Enabled(base_)).Any()) {
    status = IsRealRoot() ? absl::OkStatus() : MoveToLeaf(ours);
    if (status.ok()) {
      status = Enable(base_, Without(offered, Enabled(base_)));
    }
  }
  status.Update(Enable(path_, Enabled(base_) & offered));
  controllers_ = Enabled(path_) & all;
  const std::string why = status.ok() ? fmt::format("{} offers no more", base_) : std::string(status.message());
  if (controllers_ == all) {
    return fmt::format("resource limits are enforced by cgroup controllers: {}", controllers_.ToString());
  }
  return controllers_.Any() ? fmt::format(
                                  "resource limits are enforced by cgroup controllers: {}; the others are "
                                  "watched: {}",
                                  controllers_.ToString(), why)
                            : fmt::format("resource limits are watched: {}", why);
}

CgroupRoot::~CgroupRoot() {
  for (const std::string& id : prepared_) {
    rmdir(fmt::format("{}/{}", path_, id).c_str());
  }
  if (rmdir(path_.c_str()) == 0) {
    PutBack();
  }
}

// So that whoever started us in there can do so again: nothing may be moved into a cgroup that hands on controllers.
void CgroupRoot::PutBack() const {
  if (access(leaf().c_str(), F_OK) != 0) {
    return;
  }
  if (CountChildCgroups(base_) == 1) {
    for (const std::string& name : Enabled(base_).Names()) {
      WriteCgroupFile(base_ + "/cgroup.subtree_control", "-" + name).IgnoreError();
    }
    for (const pid_t pid : PidsIn(leaf())) {
      WriteCgroupFile(base_ + "/cgroup.procs", fmt::format("{}", pid)).IgnoreError();
    }
  }
  rmdir(leaf().c_str());
}

absl::StatusOr<std::unique_ptr<Cgroup>> CgroupRoot::Create(const std::string& instance_id) const {
  const std::string path = fmt::format("{}/{}", path_, instance_id);
  bool is_new = false;
  {
    const std::lock_guard lock(mutex_);
    is_new = prepared_.erase(instance_id) > 0;
    created_.insert(instance_id);
  }
  is_new = is_new || mkdir(path.c_str(), 0755) == 0;
  if (!is_new && errno == EEXIST) {
    RemoveCgroupTree(path);
    is_new = mkdir(path.c_str(), 0755) == 0;
  }
  if (!is_new && errno != EEXIST) {
    return ErrnoToStatus(errno, fmt::format("cgroup {}", path));
  }
  return std::make_unique<Cgroup>(path, controllers_, is_new);
}

void CgroupRoot::Prepare(const std::vector<std::string>& instance_ids) {
  for (const std::string& id : instance_ids) {
    const std::lock_guard lock(mutex_);
    if (!created_.contains(id) && mkdir(fmt::format("{}/{}", path_, id).c_str(), 0755) == 0) {
      prepared_.insert(id);
    }
  }
}

std::unique_ptr<Cgroup> CgroupRoot::Find(const std::string& instance_id) const {
  const std::string path = fmt::format("{}/{}", path_, instance_id);
  const bool is_left = was_there_ && access(path.c_str(), F_OK) == 0;
  return is_left ? std::make_unique<Cgroup>(path, controllers_, false) : nullptr;
}

}  // namespace supervisor
