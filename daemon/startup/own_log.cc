#include "daemon/startup/own_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <string>

#include "common/atomic_file.h"
#include "common/diag_log.h"
#include "common/standard_stream.h"
#include "daemon/guardian/keeper.h"

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
  if (StandardStream(global.log_file)) {
    if (!to_stderr) {
      return absl::FailedPreconditionError(
          fmt::format("log_file {}: in the background (--daemon) nobody reads that; name a file in global.log_file",
                      global.log_file));
    }
  } else if (!global.log_file.empty()) {
    const std::string directory = global.log_file.substr(0, global.log_file.rfind('/'));
    if (absl::Status status = MakeDirectories(directory, 0755); !status.ok()) {
      return status;
    }
  }
  return ConfigureDiagLog(global.log_file, LevelOf(global.log_level), to_stderr);
}

std::string HoldOwnLog(const std::string& log_file, const std::string& former, HeldDescriptors& held) {
  std::string name = log_file.empty() ? std::string() : std::string(kHeldLogPrefix) + log_file;
  if (!former.empty() && former != name) {
    held.Forget(former);
  }
  if (name.empty()) {
    return name;
  }
  const UniqueFd earlier = held.TakeFile(name);  // of the daemon before this one: held already, and not needed here
  // For reading: what is open for writing keeps its file system from being made read-only.
  const UniqueFd file(open(log_file.c_str(), O_RDONLY | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
  struct stat info {};
  if (file && fstat(file.get(), &info) == 0 && S_ISREG(info.st_mode)) {
    held.Keep(name, file.get()).IgnoreError();  // without it the keeper has nowhere to tell, and that is all
  }
  return name;
}

}  // namespace supervisor
