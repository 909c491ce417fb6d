#include "daemon/process/exec_state.h"

#include <fmt/format.h>
#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <string>
#include <string_view>

namespace supervisor {
namespace {

bool ShareMemory(pid_t one, pid_t other) { return syscall(SYS_kcmp, one, other, KCMP_VM, 0, 0) == 0; }

// The file name of /proc/PID/exe; empty where it may not be read.
std::string ProgramName(pid_t pid) {
  std::array<char, PATH_MAX> target{};
  const ssize_t size = readlink(fmt::format("/proc/{}/exe", pid).c_str(), target.data(), target.size());
  std::string_view path(target.data(), size > 0 ? static_cast<size_t>(size) : 0);
  constexpr std::string_view kDeleted = " (deleted)";  // proc(5): replaced by an upgrade, say
  if (path.ends_with(kDeleted)) {
    path.remove_suffix(kDeleted.size());
  }
  return std::string(path.substr(path.rfind('/') + 1));
}

}  // namespace

bool AwaitsExec(const ProcStat& stat) {
  return !stat.has_execed && (ShareMemory(stat.pid, getpid()) || ProgramName(stat.pid) == "supervisord");
}

bool SharesMemoryWithParent(const ProcStat& stat) { return !stat.has_execed && ShareMemory(stat.pid, stat.parent); }

}  // namespace supervisor
