#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <vector>

#include "common/clock.h"
#include "common/unique_fd.h"

namespace supervisor {

struct Usage {
  double cpu_percent = 0;  // of one core, since the sample before
  double memory_mb = 0;    // resident
};

// Samples the CPU and memory of a set of processes. Keeps /proc/PID/stat open between samples: a pread costs a few
// microseconds, and an open file keeps standing for its process when the pid is reused. One thread at a time.
class UsageSampler {
 public:
  Usage Sample(const std::vector<pid_t>& pids, MonoTime now);
  void Reset();

 private:
  struct Tracked {
    UniqueFd stat;
    uint64_t cpu_ticks = 0;
  };
  std::map<pid_t, Tracked> tracked_;
  MonoTime last_ = kNoDeadline;
};

}  // namespace supervisor
