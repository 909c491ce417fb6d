#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "daemon/health/checker.h"
#include "daemon/health/verdict.h"
#include "daemon/loop/loop.h"

namespace supervisor {

// Schedules the checks of one instance and keeps their verdict and recent history. One check at a time; a result that
// arrives after Stop changes nothing. Loop thread.
class HealthMonitor {
 public:
  struct Observer {
    std::function<void(const CheckResult&, Health)> on_result;
    std::function<void(const std::string& message)> on_healthy;    // the verdict became healthy
    std::function<void(const std::string& message)> on_unhealthy;  // became unhealthy
  };
  static constexpr size_t kKeptResults = 100;

  HealthMonitor(Loop& loop, Checker& checker, Observer observer);
  ~HealthMonitor();
  HealthMonitor(const HealthMonitor&) = delete;
  HealthMonitor& operator=(const HealthMonitor&) = delete;

  // The process is there. While it `awaits_readiness`, failures count for nothing and checks come quickly.
  void Start(const HealthCheckConfig& config, const CheckTarget& target, bool awaits_readiness);
  void Ready();  // it was ready: from now on failures count
  void Stop();
  // The service has another main process now.
  void SetProcess(pid_t pid) { target_.pid = pid; }
  // Another configuration for a running process: the verdict is kept, the next check is by the new one.
  void Update(const HealthCheckConfig& config);

  Health health() const { return running_ ? verdict_.health : Health::kUnknown; }
  const VerdictState& verdict() const { return verdict_; }
  const std::deque<CheckResult>& history() const { return history_; }  // newest last

 private:
  void Schedule(absl::Duration delay);
  void Check();
  void OnResult(uint64_t generation, const CheckResult& result);
  absl::Duration Spread(absl::Duration interval);

  Loop& loop_;
  Checker& checker_;
  Observer observer_;
  HealthCheckConfig config_;
  CheckTarget target_;
  std::unique_ptr<Loop::Timer> timer_;
  VerdictState verdict_;
  std::deque<CheckResult> history_;
  bool running_ = false;
  bool awaits_readiness_ = false;
  std::optional<uint64_t> check_;         // under way
  std::shared_ptr<uint64_t> generation_;  // differs for each Start and Stop; outlives this for late results
  uint64_t random_ = 0;
};

}  // namespace supervisor
