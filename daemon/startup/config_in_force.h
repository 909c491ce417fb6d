#pragma once

#include <string>
#include <vector>

#include "common/unique_fd.h"
#include "daemon/config/load.h"
#include "daemon/startup/options.h"

namespace supervisor {

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
