#include "daemon/service/machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/time_format.h"
#include "daemon/service/restart_policy.h"

namespace supervisor {

ServiceState StateOf(Phase phase) {
  switch (phase) {
    case Phase::kStopped:
    case Phase::kBlocked:
      return ServiceState::kStopped;
    case Phase::kWaiting:
    case Phase::kPreStart:
    case Phase::kSpawning:
    case Phase::kBecomingReady:
      return ServiceState::kStarting;
    case Phase::kRunning:
      return ServiceState::kRunning;
    case Phase::kPreStop:
    case Phase::kTerminating:
    case Phase::kKilling:
    case Phase::kPostStop:
      return ServiceState::kStopping;
    case Phase::kBackoff:
      return ServiceState::kBackoff;
    case Phase::kFailed:
      return ServiceState::kFailed;
    case Phase::kExited:
      return ServiceState::kExited;
  }
  return ServiceState::kStopped;
}

const char* StateName(ServiceState state) {
  switch (state) {
    case ServiceState::kStopped:
      return "stopped";
    case ServiceState::kStarting:
      return "starting";
    case ServiceState::kRunning:
      return "running";
    case ServiceState::kStopping:
      return "stopping";
    case ServiceState::kBackoff:
      return "backoff";
    case ServiceState::kFailed:
      return "failed";
    case ServiceState::kExited:
      return "exited";
  }
  return "stopped";
}

const char* PhaseName(Phase phase) {
  switch (phase) {
    case Phase::kStopped:
      return "kStopped";
    case Phase::kWaiting:
      return "kWaiting";
    case Phase::kBlocked:
      return "kBlocked";
    case Phase::kPreStart:
      return "kPreStart";
    case Phase::kSpawning:
      return "kSpawning";
    case Phase::kBecomingReady:
      return "kBecomingReady";
    case Phase::kRunning:
      return "kRunning";
    case Phase::kPreStop:
      return "kPreStop";
    case Phase::kTerminating:
      return "kTerminating";
    case Phase::kKilling:
      return "kKilling";
    case Phase::kPostStop:
      return "kPostStop";
    case Phase::kBackoff:
      return "kBackoff";
    case Phase::kFailed:
      return "kFailed";
    case Phase::kExited:
      return "kExited";
  }
  return "?";
}

bool IsAlive(Phase phase) {
  switch (phase) {
    case Phase::kPreStart:
    case Phase::kSpawning:
    case Phase::kBecomingReady:
    case Phase::kRunning:
    case Phase::kPreStop:
    case Phase::kTerminating:
    case Phase::kKilling:
    case Phase::kPostStop:
      return true;
    case Phase::kStopped:
    case Phase::kWaiting:
    case Phase::kBlocked:
    case Phase::kBackoff:
    case Phase::kFailed:
    case Phase::kExited:
      return false;
  }
  return false;
}

bool IsComingUp(Phase phase) { return StateOf(phase) == ServiceState::kStarting; }

const char* HookName(HookKind kind) {
  switch (kind) {
    case HookKind::kPreStart:
      return "pre_start";
    case HookKind::kPostStart:
      return "post_start";
    case HookKind::kPreStop:
      return "pre_stop";
    case HookKind::kPostStop:
      return "post_stop";
  }
  return "?";
}

namespace {

// How long after a SIGKILL a process that is still there is worth a remark and another SIGKILL (it sleeps
// uninterruptibly, most likely on a dead disk or network file system).
constexpr absl::Duration kKillRetry = absl::Seconds(2);

const Cause& PolicyCause() {
  static const Cause cause{.actor = "policy", .reason = {}};
  return cause;
}

// One step. Holds the state while it is being moved and collects the actions.
class Stepper {
 public:
  Stepper(const MachineConfig& config, MachineState state, MonoTime now)
      : config_(config), state_(std::move(state)), now_(now) {}

  StepResult Take() && { return {std::move(state_), std::move(actions_)}; }

  void operator()(const StartRequested& event);
  void operator()(const StopRequested& event);
  void operator()(const RestartRequested& event);
  void operator()(const GateOpened& event);
  void operator()(const GateBlocked& event);
  void operator()(const HookEnded& event);
  void operator()(const ExecSucceeded& event);
  void operator()(const StartFailed& event);
  void operator()(const BecameReady& event);
  void operator()(const ProcessExited& event);
  void operator()(const TreeEmptied& event);
  void operator()(const CheckFailed& event) { FailRun("health check", "unhealthy", event.message); }
  void operator()(const LimitExceeded& event) { FailRun("limit", "limit exceeded", event.message); }
  void operator()(const DeadlineReached& event);
  void operator()(const Adopted& event);

 private:
  void Enter(Phase phase, MonoTime deadline = kNoDeadline) {
    state_.phase = phase;
    state_.deadline = deadline;
  }
  MonoTime After(absl::Duration delay) const { return now_ + delay; }

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
    state_.restart_count = 0;
  }
  void BeginAttempt();
  void BeginByRequest(const Cause& cause);
  void LaunchProcess();
  void BeginStop();
  void Terminate();
  void RunIsReady();
  void FailRun(const char* actor, const char* what, const std::string& message);
  void AllGone();
  void Settle();
  void ApplyPolicy();
  void Restart(const std::string& why, absl::Duration delay);
  void TellExit(const Cause& cause);
  bool EndedClean() const;
  std::string RunEndText() const;
  std::string StoppedBy(const Cause& cause) const;

  const MachineConfig& config_;
  MachineState state_;
  MonoTime now_;
  std::vector<ServiceAction> actions_;
};

// ---------------------------------------------------------------------------------------------------- going up

void Stepper::BeginAttempt() {
  state_.attempt_open = true;
  state_.started_once = false;
  state_.hook_cancelled = false;
  state_.next = Next::kPolicy;
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
    case Phase::kWaiting:
    case Phase::kSpawning:
    case Phase::kBecomingReady:
      return;  // it is on its way: the caller waits for the same outcome
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
      state_.attempt_open = true;
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
  state_.reason = "being restarted";
  state_.attempt_open = true;
  switch (state_.phase) {
    case Phase::kPreStart:
      if (!std::exchange(state_.hook_cancelled, true)) {
        actions_.emplace_back(CancelHook{});
      }
      return;
    case Phase::kSpawning:
    case Phase::kBecomingReady:
    case Phase::kRunning:
      BeginStop();
      return;
    case Phase::kStopped:
    case Phase::kWaiting:
    case Phase::kBlocked:
    case Phase::kPreStop:
    case Phase::kTerminating:
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
      Enter(Phase::kBecomingReady,
            readiness.timeout > absl::ZeroDuration() ? After(readiness.timeout) : kNoDeadline);
      state_.reason = readiness.type == ReadinessType::kNotify ? "waits for READY=1 from the service"
                                                               : "waits for its first successful health check";
      return;
  }
}

void Stepper::RunIsReady() {
  // Once it has been well for reset_after, the attempts made so far no longer count against it.
  Enter(Phase::kRunning, state_.attempts > 0 && config_.restart.reset_after > absl::ZeroDuration()
                             ? After(config_.restart.reset_after)
                             : kNoDeadline);
  state_.reason.clear();
  if (config_.readiness.type != ReadinessType::kExec) {
    Record("ready", "ready", state_.is_restart ? PolicyCause() : state_.cause);
  }
  if (config_.has_post_start) {
    actions_.emplace_back(RunHook{HookKind::kPostStart});
  }
  EndAttempt(true, "");
}

void Stepper::operator()(const BecameReady&) {
  if (state_.phase == Phase::kBecomingReady) {
    RunIsReady();
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

void Stepper::operator()(const Adopted& event) {
  if (state_.phase != Phase::kStopped) {
    return;
  }
  state_.desired_up = true;
  state_.process_alive = true;
  state_.started_once = true;
  state_.attempts = event.attempts;
  state_.restart_count = event.restart_count;
  state_.cause = {.actor = "supervisor", .reason = {}};
  Record("adopted", fmt::format("adopted, pid {}", event.pid), state_.cause);
  if (event.ready) {
    Enter(Phase::kRunning, state_.attempts > 0 && config_.restart.reset_after > absl::ZeroDuration()
                               ? After(config_.restart.reset_after)
                               : kNoDeadline);
    return;
  }
  Enter(Phase::kBecomingReady,
        config_.readiness.timeout > absl::ZeroDuration() ? After(config_.readiness.timeout) : kNoDeadline);
}

// -------------------------------------------------------------------------------------------------- going down

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

void Stepper::Terminate() {
  Enter(Phase::kTerminating, After(config_.stop_timeout));
  actions_.emplace_back(TerminateTree{});
}

void Stepper::FailRun(const char* actor, const char* what, const std::string& message) {
  // A policy that never restarts would only take away what still half works: then the alert is all there is.
  if (state_.phase != Phase::kRunning || !state_.desired_up || config_.restart.mode == RestartMode::kNever) {
    return;
  }
  state_.failure = fmt::format("{}: {}", what, message);
  state_.reason = state_.failure;
  state_.next = Next::kPolicy;
  Record("restarting", fmt::format("stops it to restart it: {}", state_.failure), {.actor = actor, .reason = {}});
  BeginStop();
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
  state_.exit_told = false;
  switch (state_.phase) {
    case Phase::kSpawning:  // not by the driver's promise, but then as below
    case Phase::kBecomingReady:
    case Phase::kRunning: {
      const bool was_ready = state_.phase == Phase::kRunning;
      TellExit({.actor = "service", .reason = {}});
      if (was_ready || (EndedClean() && config_.restart.mode != RestartMode::kAlways)) {
        EndAttempt(true, event.status.ToString());
      } else {
        state_.failure = fmt::format("{} before it was ready", event.status.ToString());
        EndAttempt(false, state_.failure);
      }
      state_.reason = event.status.ToString();
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
    Record("exited", state_.last_exit->ToString(), cause);
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
  return state_.last_exit ? state_.last_exit->ToString() : "ended";
}

// Nothing of the instance is left.
void Stepper::Settle() {
  if (!state_.desired_up) {
    Enter(Phase::kStopped);
    const bool tells_exit = !std::exchange(state_.exit_told, true) && state_.last_exit;
    std::string message = "stopped";
    if (tells_exit) {
      message += fmt::format(", {}", state_.last_exit->ToString());
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
  delay = std::max(delay, TakeSpawnAllowance(state_.spawn_allowance, now_));
  const std::string ordinal =
      config_.restart.max_attempts > 0
          ? fmt::format("restart {} of {}", state_.attempts, config_.restart.max_attempts)
          : fmt::format("restart {}", state_.attempts);
  Record("restarting",
         delay > absl::ZeroDuration() ? fmt::format("{} in {}: {}", ordinal, FormatSpan(delay), why)
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
      EndAttempt(false, state_.failure);
      BeginStop();
      return;
    case Phase::kRunning:
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

}  // namespace

StepResult Step(const MachineConfig& config, MachineState state, const ServiceEvent& event, MonoTime now) {
  Stepper stepper(config, std::move(state), now);
  std::visit(stepper, event);
  return std::move(stepper).Take();
}

}  // namespace supervisor
