#include "daemon/startup/own_files.h"

#include <fmt/format.h>

#include <utility>

#include "common/atomic_file.h"
#include "common/diag_log.h"
#include "daemon/config/expand.h"
#include "daemon/startup/private_place.h"

namespace supervisor {

absl::Status MakeOwnDirectories(const Config& config, FileTrust trust) {
  if (const absl::Status status = MakeDirectories(config.global.log_directory, 0755); !status.ok()) {
    return {status.code(), fmt::format("global.log_directory: {}; name a directory there that can be written to",
                                       std::string(status.message()))};
  }
  return MakePidDirectory(config, trust);
}

std::vector<std::string> OwnFiles::FilesOf(const Config& config) const {
  std::vector<std::string> paths{places_.database};
  for (const auto& [service_id, service] : config.services) {
    for (const std::string& id : InstanceIds(service)) {
      paths.push_back(fmt::format("{}/{}.pid", places_.pid_directory, id));
      paths.push_back(fmt::format("{}/{}.log", places_.log_directory, id));
      if (service.logs.stderr_mode == StderrMode::kSeparate) {
        paths.push_back(fmt::format("{}/{}.err.log", places_.log_directory, id));
      }
    }
  }
  return paths;
}

absl::Status OwnFiles::Begin(const Config& config) {
  places_ = config.global;
  // The store makes it otherwise, and says what is wrong with it.
  MakeDirectories(places_.database.substr(0, places_.database.rfind('/')), 0755).IgnoreError();
  absl::Status status = claims_.Claim(FilesOf(config), pid_, follows_);
  if (!status.ok() && follows_) {
    LogError("two supervisord write to the same files", {{"error", std::string(status.message())}});
    return absl::OkStatus();
  }
  return status;
}

absl::Status OwnFiles::Reload(const Config& wanted, bool dry_run) {
  const std::vector<std::string> files = FilesOf(wanted);
  return dry_run ? claims_.Check(files) : claims_.Claim(files, pid_, false);
}

}  // namespace supervisor
