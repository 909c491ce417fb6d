#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/file_trust.h"
#include "daemon/config/config.h"
#include "daemon/logs/log_pump.h"
#include "daemon/process/spawn.h"
#include "daemon/service/environment_file.h"

namespace supervisor {

// What a service is started with, resolved from its configuration and the system: whom it runs as and its environment.
struct ServiceIdentity {
  std::optional<SpawnRequest::Credentials> credentials;
  Environment variables;                 // on top of the inherited ones
  uint64_t environment_file_digest = 0;  // see environment_digest.h; 0: there is no file
  WantedAccess log_access = {};
  // Of the programs that are to run as the daemon's own user, those that others could exchange: why, by command.
  std::map<std::string, std::string> distrusted = {};
  // nullptr: `command` may be run.
  const std::string* Distrusts(const std::string& command) const;
};

// Whether ResolveIdentity has to ask the disk or the user database.
bool NeedsLookup(const ServiceConfig& config);

// Reads the environment file, looks up user and group, and looks whether hooks and the stop command may be run: may
// block (NSS, disk), so not on the loop thread. The environment is, later ones winning: the daemon's own (without what
// concerns the daemon alone), HOME, USER, LOGNAME and SHELL of a configured user, the file, the configuration's
// "environment".
absl::StatusOr<ServiceIdentity> ResolveIdentity(const ServiceConfig& config);

// Reads and parses one; the error names the file. It may be written by root, by this process's user, and where it is
// that one's own file by `service_user`, as whom the service runs. A link of his leads to nothing that is not his: the
// service would read it with root's rights. Blocks on the disk.
absl::StatusOr<Environment> ReadEnvironmentFile(const std::string& path, std::optional<uid_t> service_user,
                                                FileTrust trust = ProcessFileTrust());

// The same of a service's own file, as its start reads it: looks up its user too, which may block. Where the user is
// not known, as if the service ran as this process's. REQUIRES: it has such a file.
absl::StatusOr<Environment> ReadEnvironmentFileOf(const ServiceConfig& config);

// The daemon's environment as services inherit it.
Environment InheritedEnvironment();

}  // namespace supervisor
