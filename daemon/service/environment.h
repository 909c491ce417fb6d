#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/config/config.h"
#include "daemon/process/spawn.h"

namespace supervisor {

using Environment = std::vector<std::pair<std::string, std::string>>;

// What a service is started with, resolved from its configuration and the system: whom it runs as and its environment.
struct ServiceIdentity {
  std::optional<SpawnRequest::Credentials> credentials;
  Environment variables;  // on top of the inherited ones
};

// Reads the environment file and looks up user and group: may block (NSS, disk), so not on the loop thread. The
// environment is, later ones winning: the daemon's own (without what concerns the daemon alone), HOME, USER, LOGNAME
// and SHELL of a configured user, the file, the configuration's "environment".
absl::StatusOr<ServiceIdentity> ResolveIdentity(const ServiceConfig& config);

// Reads and parses one; the error names the file. Blocks on the disk.
absl::StatusOr<Environment> ReadEnvironmentFile(const std::string& path);

// The daemon's environment as services inherit it.
Environment InheritedEnvironment();

// Sets or replaces.
void SetVariable(Environment& environment, const std::string& name, const std::string& value);

// The lines of an environment file as systemd's EnvironmentFile= and Docker's --env-file have them: NAME=value, blank
// lines and those that begin with # or ; are skipped, "export " before the name is allowed, a value may be in single
// or double quotes. The error names the line.
absl::StatusOr<Environment> ParseEnvironmentFile(const std::string& text);

}  // namespace supervisor
