#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/unique_fd.h"
#include "daemon/process/held_descriptors.h"

namespace supervisor {

// Two supervisors may share a pid_directory or a log_directory as long as no two of their files have the same name: one
// would overwrite and remove what is the other's. So each says in the directory which names are its own, in a file that
// it has locked (flock(2)): `.supervisord-HASH.claims`, HASH of its socket's path. The lock lies among the held
// descriptors (process/held_descriptors.h), so it lasts over daemons and upgrades, and for as long as services of a
// supervisor that was killed still run. A file that nobody has locked is left over, and the next supervisor removes it.
//
// One thread at a time.
class FileClaims {
 public:
  // `socket`: the control socket, by which others know this supervisor. `held` outlives this.
  FileClaims(std::string socket, HeldDescriptors& held) : socket_(std::move(socket)), held_(held) {}

  // Claims these paths and no others any more. AlreadyExists where one is another's: names it, its owner, and what to
  // do; nothing is changed then, unless `anyway`: then only what is told is different. Where a directory can't be
  // written to nothing is claimed in it, and the log says so. `pid`: whom others may ask.
  absl::Status Claim(const std::vector<std::string>& paths, pid_t pid, bool anyway);
  // Whether Claim would succeed.
  absl::Status Check(const std::vector<std::string>& paths) const;
  // Removes the claims: this supervisor ends.
  void Release();

 private:
  std::string PathIn(const std::string& directory) const;
  absl::Status Write(const std::string& directory, const std::vector<std::string>& names, pid_t pid);

  const std::string socket_;
  HeldDescriptors& held_;
  std::map<std::string, UniqueFd> files_;  // by directory
};

}  // namespace supervisor
