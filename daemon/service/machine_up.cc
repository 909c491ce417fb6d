#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/time_format.h"
#include "daemon/service/stepper.h"

// How an instance comes up.

namespace supervisor {
namespace {

constexpr const char* kRestartAwaitsTurn = "restarts when what depends on it has stopped";

}  // namespace

const Cause& PolicyCause() {
  static const Cause cause{.actor = "policy", .reason = {}};
  return cause;
}

void Stepper::BeginAttempt() {
  state_.attempt_open = true;
  state_.started_once = false;
  state_.hook_cancelled = false;
  state_.stop_hurried = false;
  state_.next = Next::kPolicy;
  state_.stop_note.clear();
  state_.failure.clear();
  state_.reason.clear();
  Enter(Phase::kWaiting);
}

void Stepper::BeginByRequest(const Cause& cause) {
  state_.desired_up = true;
  state_.cause = cause;
  state_.is_restart = false;
  ClearCounters();
  BeginAttempt();
}

void Stepper::operator()(const StartRequested& event) {
  switch (state_.phase) {
    case Phase::kStopped:
    case Phase::kBlocked:
    case Phase::kBackoff:
    case Phase::kFailed:
    case Phase::kExited:
      BeginByRequest(event.cause);
      return;
    case Phase::kSpawning:
    case Phase::kBecomingReady:
      if (!state_.desired_up) {  // a stop that had not had its turn is taken back
        state_.desired_up = true;
        state_.cause = event.cause;
        state_.attempt_open = true;
      }
      return;  // it is on its way: the caller waits for the same outcome
    case Phase::kWaiting:
      return;  // likewise
    case Phase::kRunning:
      if (!state_.desired_up) {  // a stop that had not had its turn is taken back
        state_.desired_up = true;
        state_.cause = event.cause;
      }
      return;
    case Phase::kPreStart:
      if (!state_.hook_cancelled) {
        return;
      }
      [[fallthrough]];
    case Phase::kPreStop:
    case Phase::kTerminating:
    case Phase::kKilling:
    case Phase::kPostStop:
      state_.desired_up = true;
      state_.cause = event.cause;
      state_.next = Next::kRestart;
      state_.attempt_open = state_.stuck.empty();  // else its reason is the answer
      return;
  }
}

void Stepper::operator()(const RestartRequested& event) {
  switch (state_.phase) {
    case Phase::kStopped:
    case Phase::kBlocked:
    case Phase::kBackoff:
    case Phase::kFailed:
    case Phase::kExited:
      Record("restarting", "restart requested", event.cause);
      BeginByRequest(event.cause);
      return;
    case Phase::kWaiting:
      return;  // it is about to start anew anyway
    case Phase::kPreStart:
    case Phase::kSpawning:
    case Phase::kBecomingReady:
    case Phase::kRunning:
    case Phase::kPreStop:
    case Phase::kTerminating:
    case Phase::kKilling:
    case Phase::kPostStop:
      break;
  }
  EndAttempt(false, "a restart was requested meanwhile");
  Record("restarting", "restart requested", event.cause);
  state_.desired_up = true;
  state_.cause = event.cause;
  state_.next = Next::kRestart;
  if (state_.stuck.empty()) {
    state_.reason = "being restarted";
    state_.attempt_open = true;
  }
  switch (state_.phase) {
    case Phase::kPreStart:
      if (!std::exchange(state_.hook_cancelled, true)) {
        actions_.emplace_back(CancelHook{});
      }
      return;
    case Phase::kSpawning:
    case Phase::kBecomingReady:
    case Phase::kRunning:
      if (event.deferred) {
        state_.reason = kRestartAwaitsTurn;
        return;
      }
      BeginStop();
      return;
    case Phase::kTerminating:
      if (state_.leaving) {
        Terminate();
      }
      return;
    case Phase::kStopped:
    case Phase::kWaiting:
    case Phase::kBlocked:
    case Phase::kPreStop:
    case Phase::kKilling:
    case Phase::kPostStop:
    case Phase::kBackoff:
    case Phase::kFailed:
    case Phase::kExited:
      return;
  }
}

void Stepper::operator()(const GateOpened&) {
  if (state_.phase == Phase::kBlocked) {
    BeginAttempt();
  }
  if (state_.phase != Phase::kWaiting) {
    return;
  }
  if (config_.has_pre_start) {
    Enter(Phase::kPreStart);
    state_.reason = "pre_start hook is running";
    actions_.emplace_back(RunHook{HookKind::kPreStart});
    return;
  }
  LaunchProcess();
}

void Stepper::operator()(const GateBlocked& event) {
  if (RestartIsPending()) {  // it could not come up again, so it does not go down
    state_.next = Next::kPolicy;
    state_.reason.clear();
    EndAttempt(false, fmt::format("{}; it was not restarted, and runs on", event.message));
    Record("restarting", fmt::format("the restart was withdrawn, and it runs on: {}", event.message), state_.cause);
    return;
  }
  if (state_.phase != Phase::kWaiting && state_.phase != Phase::kBlocked) {
    return;
  }
  Enter(Phase::kBlocked);
  state_.reason = event.message;
  EndAttempt(false, event.message);
}

void Stepper::LaunchProcess() {
  Enter(Phase::kSpawning);
  state_.process_alive = true;
  state_.reason.clear();
  actions_.emplace_back(SpawnProcess{});
}

void Stepper::operator()(const ExecSucceeded& event) {
  if (state_.phase != Phase::kSpawning) {
    return;
  }
  state_.started_once = true;
  state_.watchdog = event.watchdog;
  std::string message = fmt::format("started, pid {}", event.pid);
  if (state_.is_restart) {
    message += fmt::format(" (restart {} after: {})", state_.restart_count, RunEndText());
  }
  Record("started", std::move(message), state_.is_restart ? PolicyCause() : state_.cause);
  std::get<RecordEvent>(actions_.back()).attempt = state_.is_restart ? state_.attempts : 0;
  std::get<RecordEvent>(actions_.back()).exit = state_.is_restart ? state_.last_exit : std::nullopt;
  state_.failure.clear();
  const ReadinessConfig& readiness = config_.readiness;
  switch (readiness.type) {
    case ReadinessType::kExec:
      RunIsReady();
      return;
    case ReadinessType::kUptime:
      Enter(Phase::kBecomingReady, After(readiness.uptime));
      state_.reason = fmt::format("ready when it has been up for {}", FormatSpan(readiness.uptime));
      return;
    case ReadinessType::kNotify:
    case ReadinessType::kHealthCheck:
      Enter(Phase::kBecomingReady, readiness.timeout > absl::ZeroDuration() ? After(readiness.timeout) : kNoDeadline);
      state_.reason = readiness.type == ReadinessType::kNotify ? "waits for READY=1 from the service"
                                                               : "waits for its first successful health check";
      return;
  }
}

// When the attempts made so far cease to count: it has been up for reset_after without a failure. Runs that ended well,
// and the pauses between them, are part of that: a worker that recycles itself often proves itself too.
MonoTime Stepper::ProvedWellAt() const {
  return state_.attempts > 0 && config_.restart.reset_after > absl::ZeroDuration()
             ? state_.well_since + config_.restart.reset_after
             : kNoDeadline;
}

void Stepper::EnterRunning() {
  state_.well_since = std::min(state_.well_since, now_);
  Enter(Phase::kRunning, ProvedWellAt());
  ArmWatchdog();
}

void Stepper::RunIsReady() {
  EnterRunning();
  state_.reason = RestartIsPending() ? kRestartAwaitsTurn : "";
  if (config_.readiness.type != ReadinessType::kExec) {
    Record("ready", "ready", state_.is_restart ? PolicyCause() : state_.cause);
  }
  if (config_.has_post_start) {
    actions_.emplace_back(RunHook{HookKind::kPostStart});
  }
  if (!RestartIsPending()) {  // else this is not the start that is waited for
    EndAttempt(true, "");
  }
}

void Stepper::operator()(const BecameReady&) {
  if (state_.phase == Phase::kBecomingReady) {
    RunIsReady();
  }
}

void Stepper::operator()(const Notified& event) {
  if (event.watchdog) {
    state_.watchdog = *event.watchdog;
  }
  if (event.extend > absl::ZeroDuration()) {
    ExtendDeadline(event.extend);
  }
  if (state_.phase == Phase::kBecomingReady && event.ready && config_.readiness.type == ReadinessType::kNotify) {
    RunIsReady();
  }
  if (state_.phase != Phase::kRunning) {
    return;
  }
  if (event.ready && std::exchange(state_.reloading, false)) {
    state_.reason.clear();
  }
  if (event.reloading && !event.ready) {
    state_.reloading = true;
    state_.reason = "reloads its configuration (RELOADING=1)";
  }
  if (event.alive || event.watchdog) {
    ArmWatchdog();
  }
  if (event.stopping) {
    // It goes by itself; from here on it is held to the deadline of a stop.
    Enter(Phase::kTerminating, StopDeadline());
    state_.leaving = true;
    state_.reason = "it says that it is stopping (STOPPING=1)";
    return;
  }
  if (event.hung) {
    WatchdogFailed("it says so itself (WATCHDOG=trigger)");
  }
}

// EXTEND_TIMEOUT_USEC: never to an earlier time than was granted before, and never beyond max_extension.
void Stepper::ExtendDeadline(absl::Duration by) {
  const bool waits_for_ready =
      state_.phase == Phase::kBecomingReady && config_.readiness.type != ReadinessType::kUptime;
  if ((!waits_for_ready && state_.phase != Phase::kTerminating) || state_.deadline == kNoDeadline ||
      state_.stop_hurried || config_.is_shutting_down) {
    return;
  }
  const absl::Duration most = waits_for_ready ? config_.readiness.max_extension : config_.stop_extension;
  const MonoTime latest = most > absl::ZeroDuration() ? state_.first_deadline + most : kNoDeadline;
  const MonoTime wanted = std::min(After(by), latest);
  state_.deadline = std::max(state_.deadline, wanted);
  if (state_.ask_deadline != kNoDeadline) {
    state_.ask_deadline = std::max(state_.ask_deadline, wanted);
  }
}

// The daemon is to end: whoever stops has the time that its configuration gives it, whatever it was granted before.
void Stepper::WithdrawExtension() {
  if (state_.phase == Phase::kTerminating && state_.deadline > state_.first_deadline) {
    state_.deadline = std::max(state_.first_deadline, now_);
  }
}

void Stepper::operator()(const StartFailed& event) {
  if (!state_.process_alive) {
    return;
  }
  state_.process_alive = false;
  if (state_.phase == Phase::kSpawning) {
    state_.failure = event.message;
    state_.last_exit.reset();
    Record("failed", event.message, state_.is_restart ? PolicyCause() : state_.cause);
    EndAttempt(false, event.message);
    Settle();
    return;
  }
  AllGone();  // it was being stopped before it had come to be
}

void Stepper::operator()(const FoundAtRest& event) {
  if (state_.phase != Phase::kStopped) {
    return;
  }
  state_.last_exit = event.last_exit;
  state_.exit_told = true;
  state_.reason = event.reason;
  if (event.phase != Phase::kBackoff && event.phase != Phase::kExited && event.phase != Phase::kFailed) {
    return;
  }
  state_.desired_up = true;
  state_.attempts = event.attempts;
  state_.restart_count = event.restart_count;
  state_.failure = event.failure;
  state_.cause = {.actor = "supervisor", .reason = {}};
  Enter(event.phase, event.phase == Phase::kBackoff ? After(event.wait) : kNoDeadline);
  state_.earliest_restart = now_;
}

void Stepper::operator()(const Adopted& event) {
  if (state_.phase != Phase::kStopped) {
    return;
  }
  state_.desired_up = true;
  state_.process_alive = true;
  state_.started_once = true;
  state_.attempts = event.attempts;
  state_.restart_count = event.restart_count;
  state_.watchdog = event.watchdog;
  state_.cause = {.actor = "supervisor", .reason = {}};
  if (event.is_alive) {
    Record("adopted", fmt::format("adopted, pid {}", event.pid), state_.cause);
  }
  if (event.ready) {
    EnterRunning();
    return;
  }
  const ReadinessConfig& readiness = config_.readiness;
  if (readiness.type == ReadinessType::kUptime) {
    Enter(Phase::kBecomingReady, After(std::max(readiness.uptime - event.up_for, absl::ZeroDuration())));
  } else {
    Enter(Phase::kBecomingReady, readiness.timeout > absl::ZeroDuration()
                                     ? After(std::max(readiness.timeout - event.up_for, absl::Seconds(1)))
                                     : kNoDeadline);
  }
  state_.entered = now_ - event.up_for;
}

// ---------------------------------------------------------------------------------------------------------- a reload

// The phase under way has another limit, counted from its begin. What EXTEND_TIMEOUT_USEC has granted stays.
void Stepper::ChangeLimit(absl::Duration limit) {
  const bool is_extended = state_.deadline > state_.first_deadline;
  state_.first_deadline = LimitFromEntry(limit);
  state_.deadline = is_extended ? std::max(state_.deadline, state_.first_deadline) : state_.first_deadline;
}

void Stepper::operator()(const SettingsChanged& event) {
  switch (state_.phase) {
    case Phase::kBackoff:
      if (event.restart_policy) {
        DecideBackoffAnew();
      }
      return;
    case Phase::kRunning:
      if (event.restart_policy) {
        state_.deadline = ProvedWellAt();
      }
      return;
    case Phase::kBecomingReady:
      if (!event.readiness) {
        return;
      }
      switch (config_.readiness.type) {
        case ReadinessType::kExec:
          RunIsReady();
          return;
        case ReadinessType::kUptime:
          state_.deadline = state_.entered + config_.readiness.uptime;
          state_.reason = fmt::format("ready when it has been up for {}", FormatSpan(config_.readiness.uptime));
          return;
        case ReadinessType::kNotify:
        case ReadinessType::kHealthCheck:
          ChangeLimit(config_.readiness.timeout);
          return;
      }
      return;
    case Phase::kTerminating:
      if (event.stop_timeout && !state_.stop_hurried) {
        ChangeLimit(config_.stop_timeout);
      }
      return;
    case Phase::kStopped:
    case Phase::kWaiting:
    case Phase::kBlocked:
    case Phase::kPreStart:
    case Phase::kSpawning:
    case Phase::kPreStop:
    case Phase::kKilling:
    case Phase::kPostStop:
    case Phase::kFailed:
    case Phase::kExited:
      return;
  }
}

}  // namespace supervisor
