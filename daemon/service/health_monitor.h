#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/health/checker.h"
#include "daemon/health/verdict.h"
#include "daemon/loop/loop.h"
#include "daemon/service/check_cycle.h"

namespace supervisor {

// Makes the checks of one instance and keeps their verdict and recent history: performs what check_cycle.h decides.
// Loop thread.
class HealthMonitor {
 public:
  struct Observer {
    std::function<void(const CheckResult&, Health)> on_result;
    std::function<void(const std::string& message)> on_healthy;        // the verdict became healthy
    std::function<void(const std::string& message)> on_unhealthy;      // became unhealthy
    std::function<void(const std::string& message)> on_wants_restart;  // see CheckCycleStep::wants_restart
    std::function<std::string(std::string)> hide_secrets;  // in what a check says, before anybody hears of it
    std::function<void()> on_wants_run_as;                 // a script is due: answered by TakeRunAs, when it can be
    std::function<ProcessTreeView()> tree;                 // which the process is of, as it is now
  };
  static constexpr size_t kKeptResults = 100;

  HealthMonitor(Loop& loop, Checker& checker, Observer observer);
  ~HealthMonitor();
  HealthMonitor(const HealthMonitor&) = delete;
  HealthMonitor& operator=(const HealthMonitor&) = delete;

  // The process is there. While it `awaits_readiness`, failures count for nothing and checks come quickly. `verdict`:
  // what an earlier daemon had found of the same process.
  void Start(const HealthCheckConfig& config, const CheckTarget& target, bool awaits_readiness,
             const std::optional<VerdictState>& verdict = std::nullopt);
  void Ready();  // it was ready: from now on failures count
  void Stop();
  // The service has another main process now.
  void SetProcess(pid_t pid) { target_.pid = pid; }
  // The instance has another id.
  void Rename(const std::string& id) { target_.id = id; }
  // As whom its scripts run: to be told where the target at the start did not. Without it no script is started: a check
  // that waits for it is given up with an error and after its timeout, and the next one waits or asks again.
  void TakeRunAs(const absl::StatusOr<std::shared_ptr<const RunAs>>& run_as);
  // Another configuration for a running process: the verdict is kept, the next check is by the new one.
  void Update(const HealthCheckConfig& config);

  Health health() const { return cycle_.running ? cycle_.verdict.health : Health::kUnknown; }
  const VerdictState& verdict() const { return cycle_.verdict; }
  const std::deque<CheckResult>& history() const { return history_; }  // newest last

 private:
  void Apply(const CheckCycleStep& step);
  void BeginCheck();
  void RunCheck();
  bool KnowsRunAs() const;
  void WithoutRunAs(const std::string& why);
  void OnResult(uint64_t check, CheckResult result);

  Loop& loop_;
  Checker& checker_;
  Observer observer_;
  HealthCheckConfig config_;
  CheckTarget target_;
  std::unique_ptr<Loop::Timer> timer_;
  std::unique_ptr<Loop::Timer> run_as_timer_;
  bool wants_run_as_ = false;  // asked, and not answered yet
  CheckCycleState cycle_;
  std::deque<CheckResult> history_;
  std::optional<uint64_t> handle_;  // the checker's, of the check under way
  std::shared_ptr<bool> alive_;     // outlives this for late results
};

}  // namespace supervisor
