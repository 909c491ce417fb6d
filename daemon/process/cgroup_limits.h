#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/config/config.h"

namespace supervisor {

// How resource limits become the settings of cgroup v2 controllers, and what the kernel's counters say of them. Pure:
// texts and numbers in, decisions out. Formats: kernel, Documentation/admin-guide/cgroup-v2.rst.

// The controllers that resource_limits has a use for.
struct CgroupControllers {
  bool memory = false;
  bool cpu = false;
  bool pids = false;
  bool Any() const { return memory || cpu || pids; }
  bool operator==(const CgroupControllers&) const = default;
  // As the kernel calls them.
  std::vector<std::string> Names() const;
  std::string ToString() const;  // "memory, cpu, pids"; "none"
};

// The text of cgroup.controllers or cgroup.subtree_control: "cpuset cpu io memory pids".
CgroupControllers ParseControllers(std::string_view text);
CgroupControllers operator&(const CgroupControllers& a, const CgroupControllers& b);
// What `a` has and `b` has not.
CgroupControllers Without(const CgroupControllers& a, const CgroupControllers& b);

// Which way a limit is in force.
enum class LimitWay {
  kNone,    // there is no limit
  kWatch,   // compared with what is used, every metrics_interval
  kCgroup,  // the kernel does not let it be exceeded
};
struct LimitWays {
  LimitWay memory = LimitWay::kNone;
  LimitWay cpu = LimitWay::kNone;
  LimitWay processes = LimitWay::kNone;
  bool operator==(const LimitWays&) const = default;
};

// Enforced where there is the controller; but with on_exceed "alert" nothing may be killed or held back: watched.
LimitWays ChooseLimitWays(const ResourceLimitsConfig& limits, const CgroupControllers& controllers);

// "cgroup" or "watch" when that goes for every limit; else each by its name: "memory=cgroup,cpu=watch". Empty: no
// limits.
std::string LimitsEnforcement(const LimitWays& ways);

// What to write into which file of an instance's cgroup.
struct CgroupSetting {
  LimitWay LimitWays::*limit;  // whose it is: falls back to watching when it can't be written; null: none's
  const char* file;
  std::string value;
  bool optional;  // not every kernel has the file, and the limit does not depend on it
  bool operator==(const CgroupSetting&) const = default;
};
// All settings of the controllers that are there, in the order in which to write them; without a limit, the kernel's
// "max", so that a limit that is taken away is gone.
std::vector<CgroupSetting> SettingsFor(const ResourceLimitsConfig& limits, const LimitWays& ways,
                                       const CgroupControllers& controllers);

// The value of a key in a flat keyed file ("max 0\noom_kill 2\n"); 0 where it is missing.
uint64_t FlatKeyedValue(std::string_view text, std::string_view key);

// Counters of memory.events. They only rise, for as long as the cgroup is there, over any number of runs.
struct MemoryEvents {
  uint64_t oom = 0;       // its own limit was reached, and no memory could be reclaimed
  uint64_t oom_kill = 0;  // processes of it that were killed for want of memory, whoever ran out of it
  bool operator==(const MemoryEvents&) const = default;
};
MemoryEvents ParseMemoryEvents(std::string_view text);

// By how much counters have risen; from 0 on when the cgroup was made anew meanwhile.
MemoryEvents RiseOf(const MemoryEvents& before, const MemoryEvents& now);

// Why processes were killed, for the end of a sentence: "out of memory (limit 64 MB)". `max_memory_mb`: the limit that
// the kernel enforces, 0 for none.
std::string OutOfMemoryText(const MemoryEvents& rise, double max_memory_mb);

// "64 MB", "0.5 MB"
std::string MegabytesText(double megabytes);

}  // namespace supervisor
