#include <string>
#include <vector>

#include "common/diag_log.h"
#include "daemon/service/instance.h"

// What an instance uses, and what it may use: sampled every metrics_interval.

namespace supervisor {

void Instance::ApplyLimits() {
  for (const std::string& error : limits_.Apply(tree_.cgroup(), config_.resource_limits)) {
    LogWarning("a resource limit can't be given to the kernel: it is watched", {{"service", id_}, {"error", error}});
  }
}

void Instance::SampleUsage(MonoTime now) {
  if (child_ == nullptr) {
    return;
  }
  // Without a cgroup the tree has to be searched for, which costs a walk over /proc: only for a limit's sake.
  const bool limited = !(limits_.ways() == LimitWays{});
  const std::vector<pid_t> pids =
      limited || tree_.cgroup() != nullptr ? tree_.Pids() : std::vector<pid_t>{child_->pid()};
  usage_ = sampler_.Sample(pids, now);
  Tell(limits_.Look(tree_.cgroup(), config_.resource_limits, usage_, pids.size(), now));
  WriteRecord();
}

std::string Instance::WhyItEnded(const WaitStatus& status) {
  LimitKeeper::End end = limits_.LookAtEnd(tree_.cgroup(), config_.resource_limits, status, MonotonicNow());
  Tell(end.findings);
  return std::move(end.why);
}

void Instance::Tell(const std::vector<LimitKeeper::Finding>& findings) {
  for (const LimitKeeper::Finding& finding : findings) {
    context_.observer.OnRecord(*this, {.type = finding.type,
                                       .message = finding.message,
                                       .cause = {.actor = finding.actor, .reason = {}},
                                       .exit = {},
                                       .attempt = 0,
                                       .delay = {}});
    if (finding.must_restart) {
      Enqueue(LimitExceeded{finding.message});
    }
  }
}

}  // namespace supervisor
