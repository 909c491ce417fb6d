#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/time_format.h"
#include "daemon/service/restart_policy.h"
#include "daemon/service/stepper.h"

// How an instance goes down, and what is decided when nothing of it is left.

namespace supervisor {
namespace {

// How long after a SIGKILL a process that is still there is worth a remark and another SIGKILL (it sleeps
// uninterruptibly, most likely on a dead disk or network file system).
constexpr absl::Duration kKillRetry = absl::Seconds(2);

}  // namespace

std::string ExitText(const MachineState& state) {
  return state.exit_why.empty() ? state.last_exit->ToString()
                                : fmt::format("{}: {}", state.last_exit->ToString(), state.exit_why);
}

std::string Stepper::StoppedBy(const Cause& cause) const {
  return cause.actor.empty() ? "stopped" : fmt::format("stopped by {}", cause.actor);
}

void Stepper::operator()(const StopRequested& event) {
  const bool was_wanted = std::exchange(state_.desired_up, false);
  if (was_wanted) {
    state_.cause = event.cause;
  }
  switch (state_.phase) {
    case Phase::kStopped:
      return;
    case Phase::kWaiting:
    case Phase::kBlocked:
    case Phase::kBackoff:
    case Phase::kFailed:
    case Phase::kExited:
      EndAttempt(false, StoppedBy(event.cause));
      state_.failure.clear();
      Settle();
      return;
    case Phase::kPreStart:
      EndAttempt(false, StoppedBy(event.cause));
      state_.reason = "cancels its pre_start hook";
      if (!std::exchange(state_.hook_cancelled, true)) {
        actions_.emplace_back(CancelHook{});
      }
      return;
    case Phase::kRunning:
      if (event.deferred) {
        state_.reason = "stops when what depends on it has stopped";
        return;
      }
      state_.reason.clear();
      BeginStop();
      return;
    case Phase::kSpawning:
    case Phase::kBecomingReady:
      EndAttempt(false, StoppedBy(event.cause));
      if (event.deferred) {
        state_.reason = "stops when what depends on it has stopped";
        return;
      }
      state_.reason.clear();
      BeginStop();
      return;
    case Phase::kPreStop:
    case Phase::kTerminating:
    case Phase::kKilling:
    case Phase::kPostStop:
      EndAttempt(false, StoppedBy(event.cause));
      if (state_.phase != Phase::kKilling) {
        state_.reason.clear();
      }
      if (state_.leaving) {
        Terminate();  // it says that it goes by itself; asked to, it also has to
      }
      return;
  }
}

void Stepper::BeginStop() {
  if (config_.has_pre_stop && state_.phase != Phase::kSpawning) {
    Enter(Phase::kPreStop);
    actions_.emplace_back(RunHook{HookKind::kPreStop});
    return;
  }
  Terminate();
}

void Stepper::Terminate(bool hung) {
  Enter(Phase::kTerminating, StopDeadline());
  actions_.emplace_back(TerminateTree{hung});
}

// Marks the run as failed, to be stopped and restarted by the policy. False where that is not to be.
bool Stepper::FailRun(const char* actor, const char* what, const std::string& message) {
  // A policy that never restarts would only take away what still half works: then the alert is all there is.
  if (state_.phase != Phase::kRunning || !state_.desired_up || config_.restart.mode == RestartMode::kNever) {
    return false;
  }
  state_.failure = fmt::format("{}: {}", what, message);
  state_.reason = state_.failure;
  state_.next = Next::kPolicy;
  Record("restarting", fmt::format("stops it to restart it: {}", state_.failure), {.actor = actor, .reason = {}});
  return true;
}

void Stepper::operator()(const CheckFailed& event) {
  if (FailRun("health check", "unhealthy", event.message)) {
    BeginStop();
  }
}

void Stepper::operator()(const LimitExceeded& event) {
  if (FailRun("limit", "limit exceeded", event.message)) {
    BeginStop();
  }
}

void Stepper::WatchdogFailed(const std::string& message) {
  state_.watchdog_deadline = kNoDeadline;  // told once; its next WATCHDOG=1 arms it again
  Record("unhealthy", fmt::format("watchdog: {}", message), {.actor = "watchdog", .reason = {}});
  if (FailRun("watchdog", "watchdog", message)) {
    Terminate(true);  // no pre_stop hook: what hangs would only make that hang too
  }
}

void Stepper::operator()(const HookEnded& event) {
  const auto is = [&](HookKind kind) { return event.kind == kind; };
  switch (state_.phase) {
    case Phase::kPreStart:
      if (!is(HookKind::kPreStart)) {
        return;  // a post_start hook that outlived its run, here and below
      }
      if (state_.hook_cancelled) {
        state_.hook_cancelled = false;
        Settle();
        return;
      }
      if (event.success) {
        LaunchProcess();
        return;
      }
      state_.failure = fmt::format("pre_start hook: {}", event.message);
      state_.last_exit.reset();
      Record("failed", state_.failure, state_.is_restart ? PolicyCause() : state_.cause);
      EndAttempt(false, state_.failure);
      Settle();
      return;
    case Phase::kPreStop:
      if (!is(HookKind::kPreStop)) {
        return;
      }
      Terminate();
      if (!state_.process_alive) {
        // It went while the hook ran; what it may have left is told by TreeEmptied or killed at the deadline.
        state_.reason = "its main process is gone";
      }
      return;
    case Phase::kPostStop:
      if (is(HookKind::kPostStop)) {
        Settle();
      }
      return;
    case Phase::kRunning:
      if (!event.success && is(HookKind::kPostStart)) {
        state_.reason = fmt::format("post_start hook: {}", event.message);
      }
      return;
    case Phase::kStopped:
    case Phase::kWaiting:
    case Phase::kBlocked:
    case Phase::kSpawning:
    case Phase::kBecomingReady:
    case Phase::kTerminating:
    case Phase::kKilling:
    case Phase::kBackoff:
    case Phase::kFailed:
    case Phase::kExited:
      return;
  }
}

void Stepper::operator()(const ProcessExited& event) {
  if (!state_.process_alive) {
    return;
  }
  state_.process_alive = false;
  state_.last_exit = event.status;
  state_.exit_why = event.why;
  state_.exit_told = false;
  switch (state_.phase) {
    case Phase::kSpawning:  // not by the driver's promise, but then as below
    case Phase::kBecomingReady:
    case Phase::kRunning: {
      const bool was_ready = state_.phase == Phase::kRunning;
      TellExit({.actor = "service", .reason = {}});
      if (was_ready || (EndedClean() && config_.restart.mode != RestartMode::kAlways)) {
        EndAttempt(true, ExitText(state_));
      } else {
        state_.failure = fmt::format("{} before it was ready", ExitText(state_));
        EndAttempt(false, state_.failure);
      }
      state_.reason = ExitText(state_);
      if (event.tree_empty) {
        AllGone();
        return;
      }
      state_.reason += "; what it left behind is being stopped";
      Terminate();
      return;
    }
    case Phase::kPreStop:
      actions_.emplace_back(CancelHook{});
      return;
    case Phase::kTerminating:
    case Phase::kKilling:
      if (event.tree_empty) {
        AllGone();
      }
      return;
    case Phase::kStopped:
    case Phase::kWaiting:
    case Phase::kBlocked:
    case Phase::kPreStart:
    case Phase::kPostStop:
    case Phase::kBackoff:
    case Phase::kFailed:
    case Phase::kExited:
      return;
  }
}

void Stepper::operator()(const TreeEmptied&) {
  if ((state_.phase == Phase::kTerminating || state_.phase == Phase::kKilling) && !state_.process_alive) {
    AllGone();
  }
}

void Stepper::AllGone() {
  if (config_.has_post_stop && state_.started_once) {
    Enter(Phase::kPostStop);
    actions_.emplace_back(RunHook{HookKind::kPostStop});
    return;
  }
  Settle();
}

// ----------------------------------------------------------------------------------------------- what comes next

void Stepper::TellExit(const Cause& cause) {
  if (!std::exchange(state_.exit_told, true) && state_.last_exit) {
    Record("exited", ExitText(state_), cause);
    std::get<RecordEvent>(actions_.back()).exit = state_.last_exit;
  }
}

bool Stepper::EndedClean() const {
  return state_.failure.empty() && state_.last_exit && state_.last_exit->exit_code() &&
         std::ranges::count(config_.restart.success_exit_codes, *state_.last_exit->exit_code()) > 0;
}

std::string Stepper::RunEndText() const {
  if (!state_.failure.empty()) {
    return state_.failure;
  }
  return state_.last_exit ? ExitText(state_) : "ended";
}

// Nothing of the instance is left.
void Stepper::Settle() {
  if (!state_.desired_up) {
    Enter(Phase::kStopped);
    const bool tells_exit = !std::exchange(state_.exit_told, true) && state_.last_exit;
    std::string message = "stopped";
    if (tells_exit) {
      message += fmt::format(", {}", ExitText(state_));
    }
    state_.reason = state_.cause.reason.empty() ? StoppedBy(state_.cause)
                                                : fmt::format("{}: {}", StoppedBy(state_.cause), state_.cause.reason);
    Record("stopped", std::move(message), state_.cause);
    if (tells_exit) {
      std::get<RecordEvent>(actions_.back()).exit = state_.last_exit;
    }
    return;
  }
  TellExit(state_.next == Next::kRestart ? state_.cause : PolicyCause());
  if (state_.next == Next::kRestart) {
    BeginByRequest(state_.cause);
    return;
  }
  EndAttempt(false, RunEndText());
  ApplyPolicy();
}

void Stepper::ApplyPolicy() {
  const std::string why = RunEndText();
  const RestartDecision decision = DecideRestart(config_.restart, EndedClean() ? RunEnd::kSuccess : RunEnd::kFailure,
                                                 state_.attempts, NextRandom(state_.random));
  switch (decision.kind) {
    case RestartDecision::Kind::kDone:
      Enter(Phase::kExited);
      state_.reason = why;
      return;
    case RestartDecision::Kind::kGiveUp:
      Enter(Phase::kFailed);
      state_.reason = fmt::format("{}; {}", why, decision.why);
      Record("failed", state_.reason, PolicyCause());
      std::get<RecordEvent>(actions_.back()).exit = state_.last_exit;
      return;
    case RestartDecision::Kind::kRestart:
      Restart(why, decision.delay);
      return;
  }
}

void Stepper::Restart(const std::string& why, absl::Duration delay) {
  ++state_.attempts;
  delay = std::max(delay, TakeAllowance(state_.spawn_allowance, now_, kSpawnBucket));
  const absl::Duration storm_delay = TakeAllowance(state_.storm_allowance, now_, kStormBucket);
  const bool held_back = storm_delay > delay;
  delay = std::max(delay, storm_delay);
  const std::string ordinal = config_.restart.max_attempts > 0
                                  ? fmt::format("restart {} of {}", state_.attempts, config_.restart.max_attempts)
                                  : fmt::format("restart {}", state_.attempts);
  Record("restarting",
         delay > absl::ZeroDuration()
             ? fmt::format("{} in {}{}: {}", ordinal, FormatSpan(delay),
                           held_back ? " (held back: too many restarts of all services)" : "", why)
             : fmt::format("{} at once: {}", ordinal, why),
         PolicyCause());
  auto& event = std::get<RecordEvent>(actions_.back());
  event.exit = state_.last_exit;
  event.attempt = state_.attempts;
  event.delay = delay;
  Enter(Phase::kBackoff, After(delay));
  state_.reason = fmt::format("{}; {}", why, ordinal);
  if (delay == absl::ZeroDuration()) {
    (*this)(DeadlineReached{});
  }
}

void Stepper::operator()(const DeadlineReached&) {
  if (now_ >= state_.watchdog_deadline) {
    WatchdogFailed(fmt::format("no WATCHDOG=1 for {}", FormatSpan(state_.watchdog)));
  }
  if (now_ < state_.deadline) {
    return;
  }
  state_.deadline = kNoDeadline;
  switch (state_.phase) {
    case Phase::kBecomingReady:
      if (config_.readiness.type == ReadinessType::kUptime) {
        RunIsReady();
        return;
      }
      state_.failure = fmt::format("not ready after {}", FormatSpan(config_.readiness.timeout));
      state_.reason = state_.failure;
      Record("failed", state_.failure, PolicyCause());
      BeginStop();  // whoever waits for the start is answered when nothing of it is left
      return;
    case Phase::kRunning:
      if (config_.is_unhealthy) {
        state_.deadline = After(config_.restart.reset_after);  // it has not proved itself
        return;
      }
      state_.attempts = 0;
      return;
    case Phase::kTerminating:
    case Phase::kKilling:
      state_.reason = state_.phase == Phase::kKilling
                          ? "still there after SIGKILL: it sleeps uninterruptibly (a disk or network file system that "
                            "does not answer?)"
                          : "did not stop in time: killed";
      Enter(Phase::kKilling, After(kKillRetry));
      actions_.emplace_back(KillTree{});
      return;
    case Phase::kBackoff: {
      const std::string failure = state_.failure;  // told again by the next "started"
      ++state_.restart_count;
      state_.is_restart = true;
      BeginAttempt();
      state_.failure = failure;
      return;
    }
    case Phase::kStopped:
    case Phase::kWaiting:
    case Phase::kBlocked:
    case Phase::kPreStart:
    case Phase::kSpawning:
    case Phase::kPreStop:
    case Phase::kPostStop:
    case Phase::kFailed:
    case Phase::kExited:
      return;
  }
}

MonoTime NextDeadline(const MachineState& state) { return std::min(state.deadline, state.watchdog_deadline); }

StepResult Step(const MachineConfig& config, MachineState state, const ServiceEvent& event, MonoTime now) {
  Stepper stepper(config, std::move(state), now);
  std::visit(stepper, event);
  return std::move(stepper).Take();
}

}  // namespace supervisor
