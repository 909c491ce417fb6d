#include "daemon/startup/leftovers.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "absl/status/statusor.h"
#include "common/atomic_file.h"
#include "common/console.h"
#include "common/file_trust.h"
#include "common/unique_fd.h"
#include "daemon/guardian/keeper.h"
#include "daemon/process/boot_identity.h"
#include "daemon/process/proc_fs.h"
#include "daemon/service/record.h"
#include "daemon/startup/lock.h"

namespace supervisor {
namespace {

// "web (pid 4711)", of each record whose process lives.
std::vector<std::string> RunningServices(const std::string& state_directory) {
  constexpr size_t kMostRecord = 1 << 20;
  const BootIdentity boot = CurrentBoot();
  std::vector<std::string> running;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(state_directory, error)) {
    const absl::StatusOr<std::string> text =
        entry.path().extension() == ".record" ? ReadWholeFile(entry.path().string(), kMostRecord) : std::string();
    const absl::StatusOr<InstanceRecord> record = text.ok() ? ParseRecord(*text) : text.status();
    if (!record.ok() || record->pid == 0 || !IsSameBoot(record->boot, boot)) {
      continue;
    }
    const std::optional<ProcStat> stat = ReadProcStat(record->pid);
    if (stat && !stat->is_dead() && stat->start_ticks == record->start_ticks) {
      running.push_back(fmt::format("{} (pid {})", entry.path().stem().string(), record->pid));
    }
  }
  std::ranges::sort(running);
  return running;
}

// What lies in the FIFOs, which nobody has read.
uint64_t UnreadBytes(const std::string& state_directory) {
  uint64_t bytes = 0;
  std::error_code error;
  for (const std::string& directory : {state_directory, state_directory + "/private"}) {
    for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
      const UniqueFd fifo(entry.is_fifo(error)
                              ? open(entry.path().c_str(), O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC)
                              : -1);
      int waiting = 0;
      if (fifo && ioctl(fifo.get(), FIONREAD, &waiting) == 0 && waiting > 0) {
        bytes += static_cast<uint64_t>(waiting);
      }
    }
  }
  return bytes;
}

}  // namespace

int EndLeftovers(const RuntimePaths& paths) {
  if (access(paths.lock_file.c_str(), F_OK) != 0) {
    return 0;
  }
  const absl::StatusOr<UniqueFd> lock = TryLock(paths, ProcessFileTrust());
  if (!lock.ok()) {
    return 0;  // one is being started at this moment, or it is another user's
  }
  const std::vector<std::string> running = RunningServices(paths.state_directory);
  if (!running.empty()) {
    PrintError(fmt::format(
        "supervisord: it was killed, and its services still run: {}. Start supervisord again: it takes them "
        "over, and --stop stops them then\n",
        fmt::join(running, ", ")));
    return 1;
  }
  const std::vector<UniqueFd> keepers = FindEarlierKeepers(paths.lock_file, -1);
  if (keepers.empty()) {
    return 0;
  }
  const uint64_t unread = UnreadBytes(paths.state_directory);
  EndKeepers(keepers);
  const bool ended = std::ranges::all_of(keepers, [](const UniqueFd& keeper) {
    pollfd gone{.fd = keeper.get(), .events = POLLIN, .revents = 0};
    return poll(&gone, 1, 0) == 1;
  });
  if (!ended) {
    PrintError(
        "supervisord: a supervisor-keep process of an earlier supervisord can't be ended: it belongs to another "
        "user\n");
    return 1;
  }
  PrintOut(fmt::format(
      "ended what a killed supervisord had left (supervisor-keep){}\n",
      unread == 0 ? std::string() : fmt::format("; {} bytes that its services wrote last are in no log", unread)));
  return 0;
}

}  // namespace supervisor
