#include "daemon/process/cgroup_limits.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

namespace supervisor {
namespace {

constexpr double kMegabyte = 1 << 20;

bool HasWord(std::string_view text, std::string_view word) {
  while (!text.empty()) {
    const size_t end = std::min(text.find_first_of(" \n"), text.size());
    if (text.substr(0, end) == word) {
      return true;
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return false;
}

// "QUOTA PERIOD", both in microseconds. The kernel's usual period is 100 ms and its least quota 1 ms
// (kernel/sched/core.c: min_cfs_quota_period), so what is under one percent gets the longest period, one second.
std::string CpuMax(double percent) {
  constexpr int64_t kPeriod = 100'000;
  constexpr int64_t kLongestPeriod = 1'000'000;
  constexpr int64_t kLeastQuota = 1'000;
  const auto quota = [percent](int64_t period) {
    return static_cast<int64_t>(percent / 100.0 * static_cast<double>(period));
  };
  return quota(kPeriod) >= kLeastQuota
             ? fmt::format("{} {}", quota(kPeriod), kPeriod)
             : fmt::format("{} {}", std::max(quota(kLongestPeriod), kLeastQuota), kLongestPeriod);
}

const char* WayName(LimitWay way) {
  switch (way) {
    case LimitWay::kNone:
      return "";
    case LimitWay::kWatch:
      return "watch";
    case LimitWay::kCgroup:
      return "cgroup";
  }
  return "";
}

}  // namespace

std::vector<std::string> CgroupControllers::Names() const {
  std::vector<std::string> names;
  for (const auto& [has, name] : {std::pair{memory, "memory"}, {cpu, "cpu"}, {pids, "pids"}}) {
    if (has) {
      names.emplace_back(name);
    }
  }
  return names;
}

std::string CgroupControllers::ToString() const { return Any() ? fmt::format("{}", fmt::join(Names(), ", ")) : "none"; }

CgroupControllers ParseControllers(std::string_view text) {
  return {.memory = HasWord(text, "memory"), .cpu = HasWord(text, "cpu"), .pids = HasWord(text, "pids")};
}

CgroupControllers operator&(const CgroupControllers& a, const CgroupControllers& b) {
  return {.memory = a.memory && b.memory, .cpu = a.cpu && b.cpu, .pids = a.pids && b.pids};
}

CgroupControllers Without(const CgroupControllers& a, const CgroupControllers& b) {
  return {.memory = a.memory && !b.memory, .cpu = a.cpu && !b.cpu, .pids = a.pids && !b.pids};
}

LimitWays ChooseLimitWays(const ResourceLimitsConfig& limits, const CgroupControllers& controllers) {
  const auto way = [&limits](bool limited, bool has_controller) {
    if (!limited) {
      return LimitWay::kNone;
    }
    return has_controller && limits.on_exceed == OnFailure::kRestart ? LimitWay::kCgroup : LimitWay::kWatch;
  };
  return {.memory = way(limits.max_memory_mb > 0, controllers.memory),
          .cpu = way(limits.max_cpu_percent > 0, controllers.cpu),
          .processes = way(limits.max_processes > 0, controllers.pids)};
}

std::string LimitsEnforcement(const LimitWays& ways) {
  const std::pair<const char*, LimitWay> all[] = {
      {"memory", ways.memory}, {"cpu", ways.cpu}, {"processes", ways.processes}};
  bool watches = false;
  bool enforces = false;
  std::string each;
  for (const auto& [name, way] : all) {
    if (way != LimitWay::kNone) {
      (way == LimitWay::kWatch ? watches : enforces) = true;
      each += fmt::format("{}{}={}", each.empty() ? "" : ",", name, WayName(way));
    }
  }
  return watches && enforces ? each
                             : WayName(watches    ? LimitWay::kWatch
                                       : enforces ? LimitWay::kCgroup
                                                  : LimitWay::kNone);
}

std::vector<CgroupSetting> SettingsFor(const ResourceLimitsConfig& limits, const LimitWays& ways,
                                       const CgroupControllers& controllers) {
  std::vector<CgroupSetting> settings;
  if (controllers.memory) {
    const bool enforced = ways.memory == LimitWay::kCgroup;
    LimitWay LimitWays::*const memory = &LimitWays::memory;
    // Without this the limit would not be one: what goes beyond it would go to swap, as slow as the disk, and the
    // service would neither work nor end. There is no such file where the kernel has no swap: optional.
    settings.push_back({memory, "memory.swap.max", enforced ? "0" : "max", true});
    // All of a service or nothing: a service that lost one of its processes at random is in no state that anybody
    // has thought of. Linux 4.19.
    settings.push_back({memory, "memory.oom.group", enforced ? "1" : "0", true});
    // The last, since the kernel kills at once what is over a limit that was lowered.
    const auto bytes = static_cast<uint64_t>(limits.max_memory_mb * kMegabyte);
    settings.push_back({memory, "memory.max", enforced ? fmt::format("{}", bytes) : "max", false});
  }
  if (controllers.cpu) {
    // Where services have cgroups of their own in this controller, nice(2) only counts between processes of one
    // service. What resource_limits.nice means, a share beside other services, is this weight then.
    settings.push_back({nullptr, "cpu.weight.nice", fmt::format("{}", limits.nice), true});
    settings.push_back(
        {&LimitWays::cpu, "cpu.max", ways.cpu == LimitWay::kCgroup ? CpuMax(limits.max_cpu_percent) : "max", false});
  }
  if (controllers.pids) {
    settings.push_back({&LimitWays::processes, "pids.max",
                        ways.processes == LimitWay::kCgroup ? fmt::format("{}", limits.max_processes) : "max", false});
  }
  return settings;
}

uint64_t FlatKeyedValue(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.size() > key.size() && line.starts_with(key) && line[key.size()] == ' ') {
      uint64_t value = 0;
      std::from_chars(line.data() + key.size() + 1, line.data() + line.size(), value);
      return value;
    }
  }
  return 0;
}

MemoryEvents ParseMemoryEvents(std::string_view text) {
  return {.oom = FlatKeyedValue(text, "oom"), .oom_kill = FlatKeyedValue(text, "oom_kill")};
}

MemoryEvents RiseOf(const MemoryEvents& before, const MemoryEvents& now) {
  const bool anew = now.oom < before.oom || now.oom_kill < before.oom_kill;
  return anew ? now : MemoryEvents{.oom = now.oom - before.oom, .oom_kill = now.oom_kill - before.oom_kill};
}

std::string OutOfMemoryText(const MemoryEvents& rise, double max_memory_mb) {
  if (rise.oom > 0 && max_memory_mb > 0) {
    return fmt::format("out of memory (limit {})", MegabytesText(max_memory_mb));
  }
  return "out of memory (the machine's, or that of a cgroup above: no limit of its own was reached)";
}

std::string MegabytesText(double megabytes) { return fmt::format("{:.6g} MB", megabytes); }

}  // namespace supervisor
