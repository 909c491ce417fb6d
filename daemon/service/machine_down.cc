#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/signal_names.h"
#include "common/time_format.h"
#include "daemon/service/restart_policy.h"
#include "daemon/service/stepper.h"

// How an instance goes down, and what is decided when nothing of it is left.

namespace supervisor {
namespace {

// How long after a SIGKILL a process that is still there is worth a remark and another SIGKILL: it may not be
// signalled, or sleeps uninterruptibly, most likely on a dead disk or network file system.
constexpr absl::Duration kKillRetry = absl::Seconds(2);
// How long after the first SIGKILL it is waited for: who asked for the stop is answered then, and a shutdown goes on.
constexpr absl::Duration kKillPatience = absl::Seconds(10);
// How long a stop command may take where the stop itself has no limit.
constexpr absl::Duration kUnboundedCommandShare = absl::Seconds(30);

constexpr char kKilledForHurry[] = "killed: the stop was hurried";

const Cause& OwnCause() {
  static const Cause cause{.actor = "supervisor", .reason = {}};
  return cause;
}

// A program that goes into the background does so soon after its start: its main process ends well and leaves others.
constexpr absl::Duration kGoesIntoBackgroundWithin = absl::Seconds(5);
constexpr char kWentIntoBackground[] =
    "it left processes behind: it seems to go into the background (configure it to run in the foreground, or set "
    "readiness to notify and have it send MAINPID=)";

}  // namespace

std::string ExitText(const MachineState& state) {
  return state.exit_why.empty() ? state.last_exit->ToString()
                                : fmt::format("{}: {}", state.last_exit->ToString(), state.exit_why);
}

std::string Stepper::StoppedBy(const Cause& cause) const {
  return cause.actor.empty() ? "stopped" : fmt::format("stopped by {}", cause.actor);
}

void Stepper::operator()(const StopRequested& event) {
  if (config_.is_shutting_down) {
    WithdrawExtension();
  }
  const bool was_wanted = std::exchange(state_.desired_up, false);
  state_.next = Next::kPolicy;
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
    case Phase::kSpawning:
    case Phase::kBecomingReady:
    case Phase::kRunning:
      EndAttempt(false, StoppedBy(event.cause));  // in kRunning of a restart whose turn had not come
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
      if (state_.phase != Phase::kKilling && state_.stuck.empty()) {
        state_.reason.clear();
      }
      if (state_.leaving) {
        Terminate();  // it says that it goes by itself; asked to, it also has to
      }
      return;
  }
}

void Stepper::operator()(const StopTurnCame&) {
  if (AwaitsItsTurnToStop(state_)) {
    state_.reason = state_.desired_up ? "being restarted" : "";
    BeginStop();
  }
}

void Stepper::BeginStop() {
  if (config_.has_pre_stop && !state_.stop_hurried && state_.phase != Phase::kSpawning) {
    Enter(Phase::kPreStop);
    actions_.emplace_back(RunHook{HookKind::kPreStop});
    return;
  }
  Terminate();
}

void Stepper::Terminate(bool hung) {
  Enter(Phase::kTerminating, StopDeadline());
  state_.stop_note.clear();
  // A process that is not yet its program, or no longer there, is not what the command is made for.
  if (config_.has_stop_command && !hung && !state_.stop_hurried && state_.process_alive && state_.started_once) {
    state_.ask_deadline = After(StopCommandShare());
    actions_.emplace_back(RunStopCommand{StopCommandShare()});
    return;
  }
  actions_.emplace_back(TerminateTree{hung});
}

// Half of the graceful time: the other half is for the signal, should that be needed.
absl::Duration Stepper::StopCommandShare() const {
  return config_.stop_timeout > absl::ZeroDuration() ? config_.stop_timeout / 2 : kUnboundedCommandShare;
}

void Stepper::operator()(const StopCommandEnded& event) {
  if (state_.phase != Phase::kTerminating || state_.ask_deadline == kNoDeadline || event.success) {
    return;  // it ended well: the service has until ask_deadline to go
  }
  SignalInsteadOfCommand(event.message);
}

void Stepper::SignalInsteadOfCommand(const std::string& why) {
  state_.ask_deadline = kNoDeadline;
  if (!state_.process_alive) {
    return;  // what is left of it has been sent the signal when its main process went
  }
  state_.stop_note =
      fmt::format("graceful_shutdown command: {}; {} was sent in its place", why, SignalName(config_.stop_signal));
  state_.reason = state_.stop_note;
  Record("failed", state_.stop_note, OwnCause());
  actions_.emplace_back(TerminateTree{});
}

void Stepper::operator()(const SignalRefused& event) {
  if (state_.phase != Phase::kTerminating) {
    return;
  }
  state_.reason = fmt::format("it cannot be asked to stop: {}", event.message);
  state_.stop_note = state_.reason;
  if (state_.deadline == kNoDeadline) {
    CannotBeStopped(event.message);  // nothing else is going to be tried
  } else {
    Record("failed", state_.reason, OwnCause());
  }
}

void Stepper::operator()(const StillThere& event) {
  if (state_.phase != Phase::kKilling) {
    return;
  }
  const absl::Duration patience = event.refused ? kKillRetry : kKillPatience;
  if (!state_.stuck.empty()) {
    state_.reason = state_.stuck = fmt::format("it cannot be stopped: {}", event.message);
  } else if (now_ - state_.killing_since >= patience) {
    CannotBeStopped(event.message);
  } else {
    state_.reason = event.message;
  }
}

// Answers the callers that wait; neither they nor the order of a stop wait for it any more. When it goes after all, the
// machine goes on as after any other stop.
void Stepper::CannotBeStopped(const std::string& why) {
  state_.stuck = fmt::format("it cannot be stopped: {}", why);
  state_.reason = state_.stuck;
  Record("failed", state_.stuck, OwnCause());
  EndAttempt(false, state_.stuck);
}

void Stepper::Kill(const char* why) {
  state_.reason = why;
  state_.killing_since = now_;
  Enter(Phase::kKilling, After(kKillRetry));
  actions_.emplace_back(KillTree{});
}

void Stepper::operator()(const StopHurried&) {
  if (state_.desired_up) {
    return;
  }
  state_.stop_hurried = true;
  switch (state_.phase) {
    case Phase::kTerminating:
      Kill(kKilledForHurry);
      return;
    case Phase::kPreStop:
    case Phase::kPostStop:
      actions_.emplace_back(CancelHook{});
      return;
    case Phase::kStopped:
    case Phase::kWaiting:
    case Phase::kBlocked:
    case Phase::kPreStart:
    case Phase::kSpawning:
    case Phase::kBecomingReady:
    case Phase::kRunning:
    case Phase::kKilling:
    case Phase::kBackoff:
    case Phase::kFailed:
    case Phase::kExited:
      return;
  }
}

// Marks the run as failed, to be stopped and restarted by the policy. False where that is not to be.
bool Stepper::FailRun(const char* actor, const char* what, const std::string& message) {
  // A policy that never restarts would only take away what still half works: then the alert is all there is.
  if (state_.phase != Phase::kRunning || !state_.desired_up || config_.restart.mode == RestartMode::kNever) {
    return false;
  }
  state_.failure = fmt::format("{}: {}", what, message);
  state_.reason = state_.failure;
  if (!RestartIsPending()) {
    state_.next = Next::kPolicy;
  }
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
      if (!event.tree_empty && EndedClean() && now_ - state_.entered < kGoesIntoBackgroundWithin) {
        state_.exit_why = kWentIntoBackground;
        if (config_.restart.mode == RestartMode::kAlways) {
          state_.failure = ExitText(state_);  // no worker that recycles itself: it would do the same again, for ever
        }
      }
      TellExit({.actor = "service", .reason = {}});
      if (RestartIsPending()) {
        state_.failure.clear();  // it has gone by itself; the restart goes on, and with it what is waited for
      } else if (was_ready || (EndedClean() && config_.restart.mode != RestartMode::kAlways)) {
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
      state_.reason += "; what it left is being stopped";
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
  if (HowItEnded() == RunEnd::kFailure) {
    state_.well_since = kNoDeadline;
  }
  const RestartDecision decision =
      DecideRestart(config_.restart, HowItEnded(), state_.attempts, NextRandom(state_.random));
  switch (decision.kind) {
    case RestartDecision::Kind::kDone:
      EndForGood();
      return;
    case RestartDecision::Kind::kGiveUp:
      GiveUp(decision.why);
      return;
    case RestartDecision::Kind::kRestart:
      Restart(RunEndText(), decision.delay);
      return;
  }
}

void Stepper::EndForGood() {
  Enter(Phase::kExited);
  state_.reason = RunEndText();
}

void Stepper::GiveUp(const std::string& why) {
  Enter(Phase::kFailed);
  state_.reason = fmt::format("{}; {}", RunEndText(), why);
  Record("failed", state_.reason, PolicyCause());
  std::get<RecordEvent>(actions_.back()).exit = state_.last_exit;
}

// The policy has changed while a restart waits: the same end, judged by the new one. The wait counts from its begin.
void Stepper::DecideBackoffAnew() {
  const bool is_counted = HowItEnded() == RunEnd::kFailure;
  const int before = is_counted ? std::max(state_.attempts - 1, 0) : state_.attempts;
  const RestartDecision decision = DecideRestart(config_.restart, HowItEnded(), before, NextRandom(state_.random));
  switch (decision.kind) {
    case RestartDecision::Kind::kDone:
      EndForGood();
      return;
    case RestartDecision::Kind::kGiveUp:
      GiveUp(decision.why);
      return;
    case RestartDecision::Kind::kRestart:
      state_.deadline = std::max(state_.entered + decision.delay, state_.earliest_restart);
      return;
  }
}

void Stepper::Restart(const std::string& why, absl::Duration delay) {
  const bool is_counted = HowItEnded() == RunEnd::kFailure;
  if (is_counted) {
    ++state_.attempts;
  }
  const absl::Duration spawn_delay = TakeAllowance(state_.spawn_allowance, now_, kSpawnBucket);
  const absl::Duration storm_delay = TakeAllowance(state_.storm_allowance, now_, kStormBucket);
  delay = std::max(delay, spawn_delay);
  const bool held_back = storm_delay > delay;
  delay = std::max(delay, storm_delay);
  const std::string ordinal = !is_counted ? std::string("restart")
                              : config_.restart.max_attempts > 0
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
  event.attempt = is_counted ? state_.attempts : 0;
  event.delay = delay;
  Enter(Phase::kBackoff, After(delay));
  state_.earliest_restart = After(std::max(spawn_delay, storm_delay));
  state_.reason = is_counted ? fmt::format("{}; {}", why, ordinal)
                             : fmt::format("{}; it is started again (restart_policy.mode is always)", why);
  if (delay == absl::ZeroDuration()) {
    (*this)(DeadlineReached{});
  }
}

void Stepper::operator()(const DeadlineReached&) {
  if (now_ >= state_.watchdog_deadline) {
    WatchdogFailed(fmt::format("no WATCHDOG=1 for {}", FormatSpan(state_.watchdog)));
  }
  if (now_ >= state_.ask_deadline) {
    SignalInsteadOfCommand(fmt::format("the service is still there after {}", FormatSpan(StopCommandShare())));
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
        state_.well_since = now_;
        state_.deadline = ProvedWellAt();  // it has not proved itself
        return;
      }
      state_.attempts = 0;
      return;
    case Phase::kTerminating:
      if (!state_.stop_hurried) {
        state_.stop_note += fmt::format("{}it did not stop within {}: SIGKILL was sent",
                                        state_.stop_note.empty() ? "" : "; ", FormatSpan(config_.stop_timeout));
      }
      Kill(state_.stop_hurried ? kKilledForHurry : "did not stop in time: killed");
      return;
    case Phase::kKilling:
      Enter(Phase::kKilling, After(kKillRetry));
      actions_.emplace_back(KillTree{true});
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

MonoTime NextDeadline(const MachineState& state) {
  return std::min({state.deadline, state.watchdog_deadline, state.ask_deadline});
}

StepResult Step(const MachineConfig& config, MachineState state, const ServiceEvent& event, MonoTime now) {
  Stepper stepper(config, std::move(state), now);
  std::visit(stepper, event);
  return std::move(stepper).Take();
}

}  // namespace supervisor
