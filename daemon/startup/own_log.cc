#include "daemon/startup/own_log.h"

#include <string>

#include "common/atomic_file.h"
#include "common/diag_log.h"

namespace supervisor {
namespace {

LogLevel LevelOf(const std::string& name) {
  if (name == "debug") {
    return LogLevel::kDebug;
  }
  if (name == "warning") {
    return LogLevel::kWarning;
  }
  return name == "error" ? LogLevel::kError : LogLevel::kInfo;
}

}  // namespace

absl::Status ConfigureOwnLog(const GlobalConfig& global, bool to_stderr) {
  if (!global.log_file.empty()) {
    const std::string directory = global.log_file.substr(0, global.log_file.rfind('/'));
    if (absl::Status status = MakeDirectories(directory, 0755); !status.ok()) {
      return status;
    }
  }
  return ConfigureDiagLog(global.log_file, LevelOf(global.log_level), to_stderr);
}

}  // namespace supervisor
