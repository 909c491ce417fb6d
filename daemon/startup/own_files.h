#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/file_trust.h"
#include "daemon/config/config.h"
#include "daemon/startup/file_claims.h"

namespace supervisor {

// The directories of pid files and logs, where they are missing. The error names the key.
absl::Status MakeOwnDirectories(const Config& config, FileTrust trust);

// The files that another supervisor in the same directories would interfere with: pid files, logs, the database. They
// are claimed (file_claims.h) at the start, and again with each reload. One thread at a time.
class OwnFiles {
 public:
  // `pid`: of the guardian, where there is one. `follows`: the daemon takes over from another, whose services may run;
  // then a clash is logged, and all goes on.
  OwnFiles(const std::string& socket, HeldDescriptors& held, pid_t pid, bool follows)
      : claims_(socket, held), pid_(pid), follows_(follows) {}

  // REQUIRES: the directories of pid files and logs are there. Where these and the database lie is settled by it.
  absl::Status Begin(const Config& config);
  // `dry_run`: nothing is claimed.
  absl::Status Reload(const Config& wanted, bool dry_run);
  void End() { claims_.Release(); }
  // After a start that failed. Of one that follows another the claims are for the services that run.
  void GiveUp() {
    if (!follows_) {
      claims_.Release();
    }
  }

 private:
  std::vector<std::string> FilesOf(const Config& config) const;

  FileClaims claims_;
  const pid_t pid_;
  const bool follows_;
  GlobalConfig places_;
};

}  // namespace supervisor
