#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/unique_fd.h"

namespace supervisor {

// One cgroup v2 of an instance: it knows every process that the instance ever started, whatever those did to hide
// (kernel: Documentation/admin-guide/cgroup-v2.rst). Works without controllers: an empty v2 hierarchy beside v1 will
// do.
class Cgroup {
 public:
  ~Cgroup();  // removes the directory when it is empty
  Cgroup(const Cgroup&) = delete;
  Cgroup& operator=(const Cgroup&) = delete;

  const std::string& path() const { return path_; }
  // cgroup.procs, open for writing: a process that writes "0" to it moves in.
  int procs_fd() const { return procs_fd_.get(); }
  bool Populated() const;
  // Processes in it and in cgroups below it.
  std::vector<pid_t> Pids() const;
  // SIGKILL to all of them at once (cgroup.kill, Linux 5.14). False where the kernel does not have it.
  bool Kill() const;

 private:
  friend class CgroupRoot;
  Cgroup(std::string path, UniqueFd procs_fd);
  std::string path_;
  UniqueFd procs_fd_;
  mutable UniqueFd listing_fd_;  // cgroup.procs, kept open: it is read every few seconds
};

// Where this daemon may make cgroups: below its own one.
class CgroupRoot {
 public:
  // Null where there is no v2 hierarchy, or no right to make directories in it. `name` tells daemons apart.
  static std::unique_ptr<CgroupRoot> Detect(const std::string& name);
  ~CgroupRoot();
  CgroupRoot(const CgroupRoot&) = delete;
  CgroupRoot& operator=(const CgroupRoot&) = delete;

  absl::StatusOr<std::unique_ptr<Cgroup>> Create(const std::string& instance_id) const;
  const std::string& path() const { return path_; }

 private:
  explicit CgroupRoot(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace supervisor
