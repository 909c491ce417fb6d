#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/paths.h"
#include "common/unique_fd.h"
#include "daemon/config/load.h"
#include "daemon/startup/options.h"

namespace supervisor {

// How supervisord's command line wants files read.
LoadOptions LoadOptionsFor(const DaemonOptions& options);

// Reads the files again, for a reload. Of a configuration that came from standard input the main text stays as it is in
// force, `applied_config` being the file that holds it; what it includes is read again.
LoadedConfig LoadAgain(const DaemonOptions& options, const std::string& applied_config);

// Writes what the launcher has read from standard input to where the daemon, which can't read it again, looks for it.
absl::Status KeepForDaemon(const RuntimePaths& paths, const std::vector<ConfigText>& texts);

// What the daemon before this one had in force, where it died or made room; else what the files say. Somebody may have
// changed them since, or be in the midst of it: that is for a reload to apply. `remarks` are for the log, once there is
// one.
LoadedConfig LoadConfigInForce(const DaemonOptions& options, std::vector<std::string>& remarks);

// Where the configuration in force lies for the next daemon. One thread at a time.
class AppliedConfigFile {
 public:
  explicit AppliedConfigFile(const std::string& path) : path_(path) {}

  void Write(const std::vector<ConfigText>& texts);
  // Writes it again where somebody has removed it: the file that lost its name is still open, and costs no memory.
  void Restore();

 private:
  void Write(const std::string& content);

  const std::string& path_;
  UniqueFd file_;
};

}  // namespace supervisor
