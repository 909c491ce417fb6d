#include "daemon/process/strays.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <string_view>

#include "daemon/process/exec_state.h"
#include "daemon/process/own_child.h"
#include "daemon/process/proc_fs.h"
#include "daemon/process/process_tree.h"

namespace supervisor {
namespace {

std::string NameOf(pid_t pid) {
  std::string name = ReadProcFile(pid, "comm");
  name.erase(std::min(name.find('\n'), name.size()));
  return name;
}

bool IsInOneOfOurCgroups(pid_t pid) { return ReadProcFile(pid, "cgroup").find("/supervisord.") != std::string::npos; }

// Of the hierarchy of version 2 ("0::PATH" in cgroups(7)); empty where it is in none but the root.
std::string CgroupOf(pid_t pid) {
  const std::string text = "\n" + ReadProcFile(pid, "cgroup");
  const size_t line = text.find("\n0::");
  const std::string path = line == std::string::npos ? "" : text.substr(line + 4, text.find('\n', line + 1) - line - 4);
  return path == "/" ? "" : path;
}

// Something says whose it is, or will in a moment.
bool IsPlaced(const ProcStat& stat, EveryProcess& everybody) {
  return everybody.LineageOf(stat.pid) != 0 || !everybody.SecretOf(stat.pid).empty() ||
         EnvironmentValue(stat.pid, "SUPERVISOR_CHECK_RUN").has_value() || NameOf(stat.pid).starts_with("supervisor");
}

std::string List(const std::vector<Stray>& strays, const std::string& service) {
  constexpr size_t kMostNamed = 5;
  std::string named;
  size_t count = 0;
  for (const Stray& stray : strays) {
    if (stray.service == service && count++ < kMostNamed) {
      const std::string cgroup = service.empty() ? "" : CgroupOf(stray.pid);
      named += fmt::format("{}{} ({}{}{})", named.empty() ? "" : ", ", stray.pid, NameOf(stray.pid),
                           cgroup.empty() ? "" : ", in cgroup ", cgroup);
    }
  }
  return count <= kMostNamed ? named : fmt::format("{} and {} more", named, count - kMostNamed);
}

}  // namespace

std::vector<Stray> FindStrays(const KnownRuns& runs) {
  EveryProcess everybody;
  const Reapers reapers = everybody.reapers();
  std::vector<pid_t> orphans = OrphansOf(reapers.self);
  if (reapers.parent_is_guardian) {
    std::ranges::copy(OrphansOf(reapers.parent), std::back_inserter(orphans));
  }
  std::vector<Stray> strays;
  for (const pid_t pid : orphans) {
    if (OwnChild::Is(pid) || runs.main_pids.contains(pid) || reapers.IsSupervisor(pid)) {
      continue;  // as nearly all of them: nothing of those is read
    }
    const std::optional<ProcStat> stat = ReadProcStat(pid);
    if (!stat || stat->is_dead() || AwaitsExec(*stat) || IsInOneOfOurCgroups(pid)) {
      continue;
    }
    const auto run = runs.ended.find(everybody.SecretOf(pid));
    if (run != runs.ended.end()) {
      strays.push_back({pid, run->second});
    } else if ((runs.have_cgroups || GivesLineages()) && !IsPlaced(*stat, everybody)) {
      strays.push_back({pid, ""});
    }
  }
  return strays;
}

std::string DescribeStrays(const std::vector<Stray>& strays, const std::string& service) {
  const std::string own = List(strays, service);
  const std::string unplaced = List(strays, "");
  return fmt::format("{}{}{}{}{}", own.empty() ? "" : "left running: ", own,
                     own.empty() || unplaced.empty() ? "" : "; ",
                     unplaced.empty() ? "" : "left running, and perhaps its own: ", unplaced);
}

}  // namespace supervisor
