#include <optional>
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

bool Instance::TakeUsage(const std::shared_ptr<UsageSampler>& sampler, const Usage& usage, MonoTime now) {
  // An adopted process may still be on its way to execve(2): then nothing of it was measured.
  const bool is_on_its_way = usage.processes == 0 && usage.awaiting_exec > 0;
  if (child_ == nullptr || sampler != sampler_ || is_on_its_way) {
    return false;
  }
  const std::optional<double> last_rate = usage_.cpu_percent;
  usage_ = usage;
  ++usage_samples_;
  usage_.cpu_percent = usage.cpu_percent.has_value() ? usage.cpu_percent : last_rate;
  Tell(limits_.Look(tree_.cgroup(), config_.resource_limits, usage, static_cast<size_t>(usage.processes), now));
  WriteRecord();
  return true;
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
