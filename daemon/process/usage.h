#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/unique_fd.h"
#include "daemon/process/process_tree.h"

namespace supervisor {

// What a tree of processes uses. Rates are since an earlier sample, at least that sampler's shortest_rate before; none
// where there is no such: in the first one, and in those that follow another too closely.
struct Usage {
  std::optional<double> cpu_percent = std::nullopt;  // of one core
  // What is charged to the cgroup, without file pages that were not used for a while; where that has no memory
  // controller the sum of what each process has to itself and its share of what several have (PSS).
  double memory_mb = 0;
  int64_t processes = 0;
  // None where the kernel does not let us see them (another user's processes).
  std::optional<int64_t> descriptors = std::nullopt;
  std::optional<double> read_bytes_per_second = std::nullopt;  // from and to storage (proc(5), /proc/PID/io)
  std::optional<double> written_bytes_per_second = std::nullopt;
  // Processes that a supervisor has cloned and that have not come to their execve(2): their memory is the supervisor's,
  // so nothing of them is in the other numbers.
  int64_t awaiting_exec = 0;
  // Of some process the kernel shows resident memory alone, in which shared pages count in full.
  bool has_resident_memory = false;
};

// Measures a tree, by its cgroup where there is one, else from /proc. Keeps the files open between samples, where there
// are descriptors in plenty: a pread costs a few microseconds, and an open file of /proc keeps standing for its process
// when the pid is reused. Where it does not, a process is known by pid and start time. Not on the
// loop thread: the kernel walks the memory of a large process for some milliseconds. One thread at a time.
//
// /proc/PID/smaps_rollup is the exception: an open one stays with the address space that the process had when it was
// opened, so it is opened anew when execve(2) has given the process another.
class UsageSampler {
 public:
  // Without a cgroup processor time is counted in ticks of 10 ms, so over a few milliseconds it is 0 % or 200 %.
  static constexpr absl::Duration kShortestRate = absl::Milliseconds(500);

  explicit UsageSampler(absl::Duration shortest_rate = kShortestRate) : shortest_rate_(shortest_rate) {}

  // `everybody` is what one look at /proc serves all trees of a round.
  Usage Sample(const ProcessTreeView& tree, EveryProcess& everybody, MonoTime now);
  // Of these processes, from /proc alone.
  Usage SampleProcesses(const std::vector<pid_t>& pids, MonoTime now) { return Measure({}, pids, now); }

 private:
  struct Tracked {
    UniqueFd stat;
    UniqueFd memory;  // smaps_rollup, of the address space that the next three tell
    bool has_execed = false;
    uint64_t code_start = 0;
    uint64_t stack_start = 0;
    bool shares_memory = false;  // with its parent, whose it is
    UniqueFd io;
    uint64_t start_ticks = 0;
    uint64_t cpu_ticks = 0;
    uint64_t read_bytes = 0;
    uint64_t written_bytes = 0;
  };
  struct CgroupFiles {
    std::string path;
    UniqueFd procs;
    UniqueFd cpu;
    UniqueFd memory;
    UniqueFd memory_stat;
  };
  struct Sums {
    uint64_t cpu_ticks = 0;
    double memory_bytes = 0;
    int64_t processes = 0;
    int64_t descriptors = 0;
    bool sees_descriptors = true;
    uint64_t read_bytes = 0;
    uint64_t written_bytes = 0;
    bool sees_io = true;
    int64_t awaiting_exec = 0;
    bool has_resident_memory = false;
  };
  Usage Measure(const ProcessTreeView& tree, const std::vector<pid_t>& pids, MonoTime now);
  std::vector<pid_t> PidsOf(const ProcessTreeView& tree, EveryProcess& everybody);
  void AddProcess(pid_t pid, Tracked entry, bool with_memory, std::map<pid_t, Tracked>& tracked, Sums& sums) const;
  static void AddMemory(const ProcStat& stat, Tracked& entry, Sums& sums);

  absl::Duration shortest_rate_;
  std::map<pid_t, Tracked> tracked_;
  CgroupFiles cgroup_;
  uint64_t cgroup_usec_ = 0;  // of cpu.stat, at the last sample
  // What was used since a rate was last told.
  struct Window {
    MonoTime began = kNoDeadline;  // kNoDeadline: there was no sample yet
    double cpu_seconds = 0;
    uint64_t read_bytes = 0;
    uint64_t written_bytes = 0;
    bool sees_io = true;
  };
  Window window_;
};

}  // namespace supervisor
