#include "daemon/rpc/caller_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "common/atomic_file.h"
#include "daemon/process/proc_fs.h"

namespace supervisor {
namespace {

constexpr size_t kMostAncestors = 64;
constexpr size_t kMostCgroupText = 16u << 10;

std::string CgroupOf(pid_t pid) {
  const absl::StatusOr<std::string> text = ReadWholeFile(fmt::format("/proc/{}/cgroup", pid), kMostCgroupText);
  constexpr std::string_view kUnified = "0::";  // cgroups(7)
  for (std::string_view rest = text.ok() ? std::string_view(*text) : std::string_view(); !rest.empty();) {
    const size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    if (line.starts_with(kUnified)) {
      return std::string(line.substr(kUnified.size()));
    }
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  }
  return "";
}

// Its own leaf and the one above, which has the name of this supervisor: what a mount or a namespace puts before them
// differs by who looks.
std::string_view LastTwo(std::string_view path) {
  const size_t last = path.rfind('/');
  const size_t before = last == std::string_view::npos || last == 0 ? last : path.rfind('/', last - 1);
  return before == std::string_view::npos ? std::string_view() : path.substr(before);
}

}  // namespace

CallerTrace TraceCaller(pid_t pid) {
  CallerTrace trace;
  for (pid_t at = pid; at > 1 && trace.ancestors.size() < kMostAncestors;) {
    const std::optional<ProcStat> stat = ReadProcStat(at);
    if (!stat) {
      break;
    }
    trace.session = trace.ancestors.empty() ? stat->session : trace.session;
    trace.ancestors.push_back(at);
    at = stat->parent;
  }
  trace.cgroup = CgroupOf(pid);
  return trace;
}

bool IsOfTree(const CallerTrace& caller, const ProcessTreeView& tree, pid_t main_pid) {
  if (main_pid != 0 && std::ranges::count(caller.ancestors, main_pid) > 0) {
    return true;
  }
  if (!tree.cgroup.empty() && !caller.cgroup.empty() && LastTwo(tree.cgroup) == LastTwo(caller.cgroup) &&
      !LastTwo(caller.cgroup).empty()) {
    return true;
  }
  return caller.session != 0 && std::ranges::count(tree.sessions, caller.session) > 0 &&
         std::ranges::count(tree.reaped, caller.session) == 0;
}

}  // namespace supervisor
