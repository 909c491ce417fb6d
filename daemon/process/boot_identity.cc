#include "daemon/process/boot_identity.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <charconv>
#include <optional>

#include "daemon/process/proc_fs.h"

namespace supervisor {

BootIdentity CurrentBoot() {
  BootIdentity boot;
  boot.boot_id = BootId();
  if (boot.boot_id.empty()) {
    boot.boot_id = "unknown";
  }
  struct stat info {};
  if (stat("/proc/self/ns/pid", &info) == 0) {
    boot.pid_namespace = info.st_ino;
  }
  if (const std::optional<ProcStat> init = ReadProcStat(1)) {
    boot.init_start_ticks = init->start_ticks;
  }
  return boot;
}

bool IsSameBoot(const BootIdentity& recorded, const BootIdentity& current) {
  const auto agree = [](uint64_t one, uint64_t other) { return one == 0 || other == 0 || one == other; };
  return recorded.boot_id == current.boot_id && agree(recorded.pid_namespace, current.pid_namespace) &&
         agree(recorded.init_start_ticks, current.init_start_ticks);
}

std::string FormatPidNamespace(const BootIdentity& boot) {
  return fmt::format("{} {}", boot.pid_namespace, boot.init_start_ticks);
}

void TakePidNamespace(std::string_view text, BootIdentity& boot) {
  const char* const end = text.data() + text.size();
  uint64_t inode = 0;
  uint64_t ticks = 0;
  const auto [after, error] = std::from_chars(text.data(), end, inode);
  if (error != std::errc() || after == end || *after != ' ') {
    return;
  }
  const auto [last, second_error] = std::from_chars(after + 1, end, ticks);
  if (second_error == std::errc() && last == end) {
    boot.pid_namespace = inode;
    boot.init_start_ticks = ticks;
  }
}

}  // namespace supervisor
