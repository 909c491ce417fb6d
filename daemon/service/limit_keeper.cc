#include "daemon/service/limit_keeper.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <utility>

namespace supervisor {
namespace {

// A process that is killed for want of memory is counted before it is gone, and its exit told after that.
constexpr absl::Duration kExitAfterKill = absl::Seconds(2);

// What can't be given back: pages of files which were not used for a while are counted as the cgroup's, but go when
// somebody needs memory, and no limit is exceeded by them.
double MemoryInUseMb(const Cgroup& cgroup) {
  constexpr double kMegabyte = 1 << 20;
  const auto current = static_cast<double>(FlatKeyedValue("current " + cgroup.Read("memory.current"), "current"));
  const auto idle = static_cast<double>(FlatKeyedValue(cgroup.Read("memory.stat"), "inactive_file"));
  return std::max(0.0, current - idle) / kMegabyte;
}

uint64_t RefusedForks(const Cgroup& cgroup) { return FlatKeyedValue(cgroup.Read("pids.events"), "max"); }

double EnforcedMemory(const LimitWays& ways, const ResourceLimitsConfig& limits) {
  return ways.memory == LimitWay::kCgroup ? limits.max_memory_mb : 0;
}

}  // namespace

std::vector<std::string> LimitKeeper::Apply(const Cgroup* cgroup, const ResourceLimitsConfig& limits) {
  if (cgroup == nullptr) {
    ways_ = ChooseLimitWays(limits, {});
    return {};
  }
  const CgroupControllers& controllers = cgroup->controllers();
  ways_ = ChooseLimitWays(limits, controllers);
  std::vector<std::string> errors;
  for (const CgroupSetting& setting : SettingsFor(limits, ways_, controllers)) {
    const absl::Status status = cgroup->Write(setting.file, setting.value);
    if (!status.ok() && !setting.optional) {
      errors.emplace_back(status.message());
      if (setting.limit != nullptr && ways_.*setting.limit == LimitWay::kCgroup) {
        ways_.*setting.limit = LimitWay::kWatch;
      }
    }
  }
  return errors;
}

void LimitKeeper::LeaveRoomForExec(const Cgroup* cgroup) const {
  if (cgroup != nullptr && ways_.memory == LimitWay::kCgroup) {
    cgroup->Write("memory.max", "max").IgnoreError();  // where it stays, a start goes on as ever
  }
}

void LimitKeeper::BeginRun(const Cgroup* cgroup) {
  seen_ = {};
  if (cgroup != nullptr && cgroup->controllers().Any()) {
    seen_ = {.memory = ParseMemoryEvents(cgroup->Read("memory.events")), .refused_forks = RefusedForks(*cgroup)};
  }
  ResumeRun(seen_);
  unseen_ = false;  // it has used nothing yet
}

void LimitKeeper::ResumeRun(const Counters& counters) {
  seen_ = counters;
  at_start_ = counters.memory;
  oom_kill_ = kNoDeadline;
  told_ = {};
  unseen_ = true;
}

std::vector<LimitKeeper::Finding> LimitKeeper::Look(const Cgroup* cgroup, const ResourceLimitsConfig& limits,
                                                    const Usage& usage, size_t processes, MonoTime now) {
  std::vector<Finding> findings;
  unseen_ = unseen_ && limits.max_cpu_percent > 0 && !usage.cpu_percent;  // the first sample has no rate
  TakeOomKills(cgroup, limits, now, findings);
  TakeRefusedForks(cgroup, limits, findings);
  Watch(cgroup, limits, usage, processes, findings);
  return findings;
}

LimitKeeper::End LimitKeeper::LookAtEnd(const Cgroup* cgroup, const ResourceLimitsConfig& limits,
                                        const WaitStatus& status, MonoTime now) {
  End end;
  TakeOomKills(cgroup, limits, now, end.findings);
  TakeRefusedForks(cgroup, limits, end.findings);
  // Of a process that ended while nobody was there to reap it the status is not known, and this all the more telling.
  const bool may_be_killed = status.signal() == SIGKILL || status == WaitStatus::Unknown();
  if (oom_kill_ == kNoDeadline || !may_be_killed) {
    return end;
  }
  // Its own limit kills all of it (memory.oom.group), so its main process went by that too. Without one the kernel
  // chooses a single process, and a later SIGKILL may be anybody's.
  const double limit_mb = EnforcedMemory(ways_, limits);
  const MemoryEvents rise = RiseOf(at_start_, seen_.memory);
  if ((limit_mb > 0 && rise.oom > 0) || now - oom_kill_ < kExitAfterKill) {
    end.why = OutOfMemoryText(rise, limit_mb);
  }
  return end;
}

void LimitKeeper::TakeOomKills(const Cgroup* cgroup, const ResourceLimitsConfig& limits, MonoTime now,
                               std::vector<Finding>& findings) {
  if (cgroup == nullptr || !cgroup->controllers().memory) {
    return;
  }
  const uint64_t killed = RiseOf(seen_.memory, ParseMemoryEvents(cgroup->Read("memory.events"))).oom_kill;
  if (killed == 0) {
    return;
  }
  // Read again: the counters are printed one after another, and "oom", the cause, stands before "oom_kill". For the
  // same reason the cause may have been seen by an earlier look, so it is sought in all of this run.
  const MemoryEvents events = ParseMemoryEvents(cgroup->Read("memory.events"));
  const MemoryEvents rise{.oom = RiseOf(at_start_, events).oom, .oom_kill = RiseOf(seen_.memory, events).oom_kill};
  seen_.memory = events;
  oom_kill_ = now;
  const double limit_mb = EnforcedMemory(ways_, limits);
  findings.push_back(
      {.type = "oom_killed",
       .message = fmt::format("{}: the kernel killed {} process{} of it", OutOfMemoryText(rise, limit_mb),
                              rise.oom_kill, rise.oom_kill == 1 ? "" : "es"),
       .actor = rise.oom > 0 && limit_mb > 0 ? "limit" : "kernel",
       .must_restart = false});
}

// Told when the first fork is refused, and again only after a look that found none refused since the one before.
void LimitKeeper::TakeRefusedForks(const Cgroup* cgroup, const ResourceLimitsConfig& limits,
                                   std::vector<Finding>& findings) {
  if (cgroup == nullptr || !cgroup->controllers().pids) {
    return;
  }
  const uint64_t refused = RefusedForks(*cgroup);
  const bool rises = refused != std::exchange(seen_.refused_forks, refused) && refused > 0;
  if (std::exchange(told_.refused_forks, rises) || !rises) {
    return;
  }
  findings.push_back(
      {.type = "limit_exceeded",
       .message = ways_.processes == LimitWay::kCgroup
                      ? fmt::format("{} processes and threads (resource_limits.max_processes): the kernel refused it "
                                    "another",
                                    limits.max_processes)
                      : "the kernel refused it another process: a limit of a cgroup above, not resource_limits",
       .actor = "limit",
       .must_restart = false});
}

// Each limit is told when it is exceeded, and again only after a look that found it kept.
void LimitKeeper::Watch(const Cgroup* cgroup, const ResourceLimitsConfig& limits, const Usage& usage, size_t processes,
                        std::vector<Finding>& findings) {
  const auto look = [&](LimitWay way, bool exceeded, bool& told, const auto& text) {
    const bool tell = way == LimitWay::kWatch && exceeded;
    if (!std::exchange(told, tell) && tell) {
      findings.push_back({.type = "limit_exceeded",
                          .message = text(),
                          .actor = "limit",
                          .must_restart = limits.on_exceed == OnFailure::kRestart});
    }
  };
  const bool counted = ways_.memory == LimitWay::kWatch && cgroup != nullptr && cgroup->controllers().memory;
  const double memory_mb = counted ? MemoryInUseMb(*cgroup) : usage.memory_mb;
  look(ways_.memory, memory_mb > limits.max_memory_mb, told_.memory, [&] {
    return fmt::format("memory {:.1f} MB of {:.1f} MB (resource_limits.max_memory_mb)", memory_mb,
                       limits.max_memory_mb);
  });
  if (usage.cpu_percent) {
    look(ways_.cpu, *usage.cpu_percent > limits.max_cpu_percent, told_.cpu, [&] {
      return fmt::format("CPU {:.0f}% of {:.0f}% (resource_limits.max_cpu_percent)", *usage.cpu_percent,
                         limits.max_cpu_percent);
    });
  }
  look(ways_.processes, processes > static_cast<size_t>(limits.max_processes), told_.processes, [&] {
    return fmt::format("{} processes of {} (resource_limits.max_processes)", processes, limits.max_processes);
  });
}

}  // namespace supervisor
