#include "daemon/service/health_monitor.h"

#include <functional>
#include <utility>

#include "common/clock.h"
#include "common/diag_log.h"

namespace supervisor {

HealthMonitor::HealthMonitor(Loop& loop, Checker& checker, Observer observer)
    : loop_(loop),
      checker_(checker),
      observer_(std::move(observer)),
      timer_(loop.NewTimer([this] { Apply(CheckIsDue(cycle_, MonotonicNow())); })),
      run_as_timer_(loop.NewTimer([this] { WithoutRunAs("its user is still being looked up"); })),
      alive_(std::make_shared<bool>(true)) {}

HealthMonitor::~HealthMonitor() { Stop(); }

void HealthMonitor::Start(const HealthCheckConfig& config, const CheckTarget& target, bool awaits_readiness,
                          const std::optional<VerdictState>& verdict) {
  config_ = config;
  target_ = target;
  const MonoTime now = MonotonicNow();
  cycle_.random = std::hash<std::string>()(target.id) ^ static_cast<uint64_t>(target.pid);
  Apply(BeginChecks(config_, cycle_, awaits_readiness, verdict, now));
}

void HealthMonitor::Ready() { Apply(ServiceIsReady(cycle_)); }

void HealthMonitor::Stop() { Apply(EndChecks(cycle_)); }

void HealthMonitor::Update(const HealthCheckConfig& config) {
  config_ = config;
  if (target_.pid != 0) {
    Apply(ChangeChecks(config_, cycle_, MonotonicNow()));
  }
}

void HealthMonitor::Apply(const CheckCycleStep& step) {
  cycle_ = step.state;
  if (step.cancel_check && handle_) {
    checker_.Cancel(*std::exchange(handle_, std::nullopt));
  }
  if (step.begin_check) {
    BeginCheck();
  } else if (cycle_.due == kNoDeadline) {
    timer_->Disarm();
  } else {
    timer_->ArmAt(cycle_.due);
  }
}

void HealthMonitor::TakeRunAs(const absl::StatusOr<std::shared_ptr<const RunAs>>& run_as) {
  wants_run_as_ = false;
  run_as_timer_->Disarm();
  if (KnowsRunAs()) {
    return;  // another process meanwhile, of which it is known
  }
  if (!run_as.ok()) {
    WithoutRunAs(std::string(run_as.status().message()));
    return;
  }
  target_.run_as = *run_as;
  if (cycle_.under_way && !handle_) {
    RunCheck();
  }
}

// What a script of this configuration is run with.
bool HealthMonitor::KnowsRunAs() const {
  return target_.run_as != nullptr &&
         (config_.script_environment != ScriptEnvironment::kService || target_.run_as->environment.has_value());
}

// That says nothing about the service: no check has failed.
void HealthMonitor::WithoutRunAs(const std::string& why) {
  if (cycle_.under_way && !handle_) {
    LogWarning("not checked: whom the script is to run as is not known", {{"service", target_.id}, {"error", why}});
    Apply(AbandonCheck(config_, cycle_, MonotonicNow()));
  }
}

void HealthMonitor::BeginCheck() {
  if (config_.type == HealthCheckType::kScript && !KnowsRunAs()) {
    run_as_timer_->ArmAfter(config_.timeout);
    if (!std::exchange(wants_run_as_, true)) {
      observer_.on_wants_run_as();  // rather than as the daemon, who may do more than the service
    }
    return;
  }
  RunCheck();
}

void HealthMonitor::RunCheck() {
  target_.tree = observer_.tree();
  // The checker answers on a thread of its own, perhaps when this object is no more.
  handle_ = checker_.Start(
      config_, target_,
      [this, &loop = loop_, check = cycle_.check, alive = std::weak_ptr<bool>(alive_)](CheckResult result) {
        loop.Post([this, check, alive, result = std::move(result)] {
          if (!alive.expired()) {
            OnResult(check, result);
          }
        });
      });
}

void HealthMonitor::OnResult(uint64_t check, CheckResult result) {
  const CheckCycleStep step = TakeCheckResult(config_, cycle_, check, result.success, MonotonicNow());
  if (!step.took_result) {
    return;
  }
  handle_.reset();
  result.message = observer_.hide_secrets(std::move(result.message));
  history_.push_back(result);
  if (history_.size() > kKeptResults) {
    history_.pop_front();
  }
  Apply(step);
  observer_.on_result(result, cycle_.verdict.health);
  if (step.became_healthy) {
    observer_.on_healthy(result.message);
  }
  if (step.became_unhealthy) {
    observer_.on_unhealthy(result.message);
  }
  if (step.wants_restart) {
    observer_.on_wants_restart(result.message);
  }
}

}  // namespace supervisor
