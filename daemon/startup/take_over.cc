#include "daemon/startup/take_over.h"

#include <fcntl.h>

#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "daemon/guardian/keeper.h"

namespace supervisor {

std::vector<UniqueFd> TakeOverFromKeepers(const RuntimePaths& paths, pid_t own_keeper, HeldDescriptors& held) {
  std::vector<UniqueFd> not_held;
  const std::vector<UniqueFd> keepers = FindEarlierKeepers(paths.lock_file, own_keeper);
  if (keepers.empty()) {
    return not_held;
  }
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(paths.state_directory, error)) {
    const std::string path = entry.path().string();
    UniqueFd fd;
    if (entry.is_fifo(error)) {
      fd.Reset(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC));
    }
    if (fd && !held.Keep(path, fd.get()).ok()) {
      not_held.push_back(std::move(fd));
    }
  }
  EndKeepers(keepers);
  return not_held;
}

}  // namespace supervisor
