#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "daemon/service/instance.h"

// What an instance uses, and the limits that are watched over its whole tree: by sampling, every metrics_interval.

namespace supervisor {
namespace {

// The first of the limits that is exceeded, in words; empty: none.
std::string Exceeded(const ResourceLimitsConfig& limits, const Usage& usage, size_t processes) {
  if (limits.max_memory_mb > 0 && usage.memory_mb > limits.max_memory_mb) {
    return fmt::format("memory {:.1f} MB of {:.1f} MB (resource_limits.max_memory_mb)", usage.memory_mb,
                       limits.max_memory_mb);
  }
  if (limits.max_cpu_percent > 0 && usage.cpu_percent > limits.max_cpu_percent) {
    return fmt::format("CPU {:.0f}% of {:.0f}% (resource_limits.max_cpu_percent)", usage.cpu_percent,
                       limits.max_cpu_percent);
  }
  if (limits.max_processes > 0 && processes > static_cast<size_t>(limits.max_processes)) {
    return fmt::format("{} processes of {} (resource_limits.max_processes)", processes, limits.max_processes);
  }
  return {};
}

}  // namespace

void Instance::SampleUsage(MonoTime now) {
  if (child_ == nullptr) {
    return;
  }
  // Without a cgroup the tree has to be searched for, which costs a walk over /proc: only for a limit's sake.
  const ResourceLimitsConfig& limits = config_.resource_limits;
  const bool limited = limits.max_memory_mb > 0 || limits.max_cpu_percent > 0 || limits.max_processes > 0;
  const std::vector<pid_t> pids = limited || tree_.has_cgroup() ? tree_.Pids() : std::vector<pid_t>{child_->pid()};
  usage_ = sampler_.Sample(pids, now);
  WatchLimits(pids.size());
}

void Instance::WatchLimits(size_t processes) {
  const std::string exceeded = Exceeded(config_.resource_limits, usage_, processes);
  if (exceeded.empty()) {
    over_limit_ = false;
    return;
  }
  if (std::exchange(over_limit_, true)) {
    return;
  }
  context_.observer.OnRecord(*this, {.type = "limit_exceeded",
                                     .message = exceeded,
                                     .cause = {.actor = "limit", .reason = {}},
                                     .exit = {},
                                     .attempt = 0,
                                     .delay = {}});
  if (config_.resource_limits.on_exceed == OnFailure::kRestart) {
    Enqueue(LimitExceeded{exceeded});
  }
}

}  // namespace supervisor
