#include "daemon/startup/take_over.h"

#include <fcntl.h>

#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "common/diag_log.h"
#include "daemon/guardian/keeper.h"

namespace supervisor {

std::vector<UniqueFd> TakeOverFromKeepers(const RuntimePaths& paths, pid_t own_keeper, HeldDescriptors& held) {
  std::vector<UniqueFd> not_held;
  const std::vector<UniqueFd> keepers = FindEarlierKeepers(paths.lock_file, own_keeper);
  if (keepers.empty()) {
    return not_held;
  }
  std::error_code error;
  for (const std::string& directory : {paths.state_directory, paths.state_directory + "/private"}) {
    for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
      const std::string path = entry.path().string();
      UniqueFd fd;
      if (entry.is_fifo(error)) {
        fd.Reset(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC));
      }
      if (fd && !held.Keep(path, fd.get()).ok()) {
        not_held.push_back(std::move(fd));
      }
    }
  }
  EndKeepers(keepers);
  return not_held;
}

std::unique_ptr<BirthJournal> OpenBirths(const std::string& file) {
  absl::StatusOr<std::unique_ptr<BirthJournal>> births = BirthJournal::Open(file, CurrentBoot());
  if (births.ok()) {
    return *std::move(births);
  }
  LogError("no journal of births: a service that is started just before the daemon dies may be started anew",
           {{"error", std::string(births.status().message())}});
  return nullptr;
}

}  // namespace supervisor
