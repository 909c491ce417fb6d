#include "daemon/service/health_monitor.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "daemon/service/restart_policy.h"

namespace supervisor {
namespace {

// How often one looks while somebody waits for the service to be ready.
constexpr absl::Duration kReadinessInterval = absl::Milliseconds(250);
// A service is looked at soon after it has started, whatever its interval.
constexpr absl::Duration kFirstCheck = absl::Seconds(1);
constexpr double kSpread = 0.1;

}  // namespace

HealthMonitor::HealthMonitor(Loop& loop, Checker& checker, Observer observer)
    : loop_(loop),
      checker_(checker),
      observer_(std::move(observer)),
      timer_(loop.NewTimer([this] { Check(); })),
      generation_(std::make_shared<uint64_t>(0)) {}

HealthMonitor::~HealthMonitor() { Stop(); }

void HealthMonitor::Start(const HealthCheckConfig& config, const CheckTarget& target, bool awaits_readiness) {
  Stop();
  config_ = config;
  target_ = target;
  if (config_.type == HealthCheckType::kNone) {
    return;
  }
  running_ = true;
  awaits_readiness_ = awaits_readiness;
  random_ = std::hash<std::string>()(target.id) ^ static_cast<uint64_t>(target.pid);
  verdict_ = VerdictAtStart(MonotonicNow());
  Schedule(awaits_readiness ? absl::ZeroDuration() : std::min(config_.interval, kFirstCheck) * NextRandom(random_));
}

void HealthMonitor::Ready() { awaits_readiness_ = false; }

void HealthMonitor::Stop() {
  ++*generation_;
  timer_->Disarm();
  if (check_) {
    checker_.Cancel(*std::exchange(check_, std::nullopt));
  }
  running_ = false;
}

void HealthMonitor::Update(const HealthCheckConfig& config) {
  const bool had_check = config_.type != HealthCheckType::kNone;
  config_ = config;
  if (!running_ && !had_check && config.type != HealthCheckType::kNone && target_.pid != 0) {
    Start(config, target_, false);
  } else if (running_ && config.type == HealthCheckType::kNone) {
    Stop();
  } else if (running_ && !check_) {
    Schedule(std::min(config_.interval, kFirstCheck));
  }
}

absl::Duration HealthMonitor::Spread(absl::Duration interval) {
  // So that checks which began together drift apart: 500 of them must not fire at once for ever.
  return interval * (1.0 + kSpread * (NextRandom(random_) - 0.5));
}

void HealthMonitor::Schedule(absl::Duration delay) { timer_->ArmAfter(delay); }

void HealthMonitor::Check() {
  if (!running_ || check_) {
    return;
  }
  // The checker answers on a thread of its own, perhaps when this object is no more: the generation, which outlives
  // it, tells. It is read and written on the loop thread alone.
  const uint64_t generation = *generation_;
  const std::weak_ptr<uint64_t> alive = generation_;
  check_ = checker_.Start(config_, target_, [this, &loop = loop_, generation, alive](CheckResult result) {
    loop.Post([this, generation, alive, result = std::move(result)] {
      const std::shared_ptr<uint64_t> current = alive.lock();
      if (current != nullptr && *current == generation) {
        OnResult(generation, result);
      }
    });
  });
}

void HealthMonitor::OnResult(uint64_t generation, const CheckResult& result) {
  check_.reset();
  HealthCheckConfig rules = config_;
  if (awaits_readiness_) {
    rules.start_period = absl::InfiniteDuration();
  }
  const VerdictChange change = ApplyResult(rules, verdict_, result.success, MonotonicNow());
  verdict_ = change.state;
  history_.push_back(result);
  if (history_.size() > kKeptResults) {
    history_.pop_front();
  }
  const bool waits = awaits_readiness_ && !result.success;
  Schedule(waits ? std::min(config_.interval, kReadinessInterval) : Spread(config_.interval));
  observer_.on_result(result, verdict_.health);
  if (change.became_healthy) {
    observer_.on_healthy(result.message);
  }
  // An observer may have stopped us meanwhile.
  if (change.became_unhealthy && *generation_ == generation) {
    observer_.on_unhealthy(result.message);
  }
}

}  // namespace supervisor
