#pragma once

#include <string>
#include <utility>
#include <vector>

#include "daemon/service/machine.h"
#include "daemon/service/restart_policy.h"

namespace supervisor {

// The inside of Step, for machine_up.cc and machine_down.cc: nobody else includes this.

// One step. Holds the state while it is being moved and collects the actions.
class Stepper {
 public:
  Stepper(const MachineConfig& config, MachineState state, MonoTime now)
      : config_(config), state_(std::move(state)), now_(now) {}

  StepResult Take() && { return {std::move(state_), std::move(actions_)}; }

  void operator()(const StartRequested& event);
  void operator()(const StopRequested& event);
  void operator()(const RestartRequested& event);
  void operator()(const StopTurnCame& event);
  void operator()(const StopHurried& event);
  void operator()(const GateOpened& event);
  void operator()(const GateBlocked& event);
  void operator()(const HookEnded& event);
  void operator()(const ExecSucceeded& event);
  void operator()(const StartFailed& event);
  void operator()(const BecameReady& event);
  void operator()(const Notified& event);
  void operator()(const ProcessExited& event);
  void operator()(const TreeEmptied& event);
  void operator()(const StopCommandEnded& event);
  void operator()(const SignalRefused& event);
  void operator()(const StillThere& event);
  void operator()(const CheckFailed& event);
  void operator()(const LimitExceeded& event);
  void operator()(const DeadlineReached& event);
  void operator()(const Adopted& event);
  void operator()(const FoundAtRest& event);
  void operator()(const SettingsChanged& event);

 private:
  void Enter(Phase phase, MonoTime deadline = kNoDeadline) {
    state_.phase = phase;
    state_.deadline = deadline;
    state_.first_deadline = deadline;
    state_.entered = now_;
    state_.reloading = false;
    state_.leaving = false;
    state_.watchdog_deadline = kNoDeadline;
    state_.ask_deadline = kNoDeadline;
    if (phase != Phase::kKilling) {
      state_.stuck.clear();
    }
  }
  MonoTime After(absl::Duration delay) const { return now_ + delay; }
  // The same of the begin of the phase; a limit of zero is none.
  MonoTime LimitFromEntry(absl::Duration limit) const {
    return limit > absl::ZeroDuration() ? state_.entered + limit : kNoDeadline;
  }

  void Record(std::string type, std::string message, const Cause& cause) {
    actions_.emplace_back(RecordEvent{
        .type = std::move(type), .message = std::move(message), .cause = cause, .exit = {}, .attempt = 0, .delay = {}});
  }
  void EndAttempt(bool success, std::string message) {
    if (std::exchange(state_.attempt_open, false)) {
      actions_.emplace_back(AttemptEnded{success, std::move(message)});
    }
  }

  void ClearCounters() {
    state_.attempts = 0;
    state_.well_since = kNoDeadline;
    state_.restart_count = 0;
  }
  void BeginAttempt();
  void BeginByRequest(const Cause& cause);
  void LaunchProcess();
  void BeginStop();
  void Terminate(bool hung = false);
  absl::Duration StopCommandShare() const;
  void SignalInsteadOfCommand(const std::string& why);
  void CannotBeStopped(const std::string& why);
  // A restart that somebody asked for and whose turn has not come.
  bool RestartIsPending() const { return state_.desired_up && AwaitsItsTurnToStop(state_); }
  void Kill(const char* why);
  MonoTime StopDeadline() const {
    if (state_.stop_hurried) {
      return now_;
    }
    return config_.stop_timeout > absl::ZeroDuration() ? After(config_.stop_timeout) : kNoDeadline;
  }
  void EnterRunning();
  void ArmWatchdog() {
    state_.watchdog_deadline = state_.watchdog > absl::ZeroDuration() ? After(state_.watchdog) : kNoDeadline;
  }
  void WatchdogFailed(const std::string& message);
  void ExtendDeadline(absl::Duration by);
  void WithdrawExtension();
  void RunIsReady();
  bool FailRun(const char* actor, const char* what, const std::string& message);
  void AllGone();
  void Settle();
  void ApplyPolicy();
  void Restart(const std::string& why, absl::Duration delay);
  void DecideBackoffAnew();
  void GiveUp(const std::string& why);
  void EndForGood();
  RunEnd HowItEnded() const { return EndedClean() ? RunEnd::kSuccess : RunEnd::kFailure; }
  MonoTime ProvedWellAt() const;
  void ChangeLimit(absl::Duration limit);
  void TellExit(const Cause& cause);
  bool EndedClean() const;
  std::string RunEndText() const;
  std::string StoppedBy(const Cause& cause) const;

  const MachineConfig& config_;
  MachineState state_;
  MonoTime now_;
  std::vector<ServiceAction> actions_;
};

}  // namespace supervisor
