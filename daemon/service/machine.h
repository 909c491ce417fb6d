#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "common/clock.h"
#include "daemon/config/config.h"
#include "daemon/process/wait_status.h"

namespace supervisor {

// The service machine: the life of one instance as (state, event, now) -> (state, actions). Pure: no syscall, no
// clock, no log, no randomness but the seed in the state. The driver (instance.h) performs the actions and feeds back
// what came of them; the simulator in the tests plays the driver against random histories.
//
// Two things are kept apart: what is wanted (`desired_up`, set only by requests) and what is (`phase`, moved only by
// facts). What the pair means:
//
//   phase           desired up                          desired down
//   --------------  ----------------------------------  --------------------------------------------------
//   kStopped        (does not occur)                    at rest
//   kWaiting        its turn has not come               (does not occur: a stop goes to kStopped at once)
//   kBlocked        a dependency failed                 (does not occur)
//   kPreStart       the hook runs                       the hook is being cancelled, then stopped
//   kSpawning       cloned, not yet exec'd              waits for its turn to stop (a deferred stop)
//   kBecomingReady  exec'd, not yet ready               waits for its turn to stop
//   kRunning        ready (next: kRestart: it waits     waits for its turn to stop (a deferred stop)
//                   for its turn to be restarted)
//   kPreStop        stops, to be started again          the hook runs before the stop
//   kTerminating    asked to go, to be started again    asked to go
//   kKilling        past the deadline, likewise         past the deadline: SIGKILL until nothing is left
//   kPostStop       the hook runs, then what is next    the hook runs, then stopped
//   kBackoff        waits to be restarted               (does not occur)
//   kFailed         gave up                             (does not occur: a stop goes to kStopped)
//   kExited         ended as it should                  (does not occur)
enum class Phase {
  kStopped,
  kWaiting,
  kBlocked,
  kPreStart,
  kSpawning,
  kBecomingReady,
  kRunning,
  kPreStop,
  kTerminating,
  kKilling,
  kPostStop,
  kBackoff,
  kFailed,
  kExited,
};

// The names of the contract.
enum class ServiceState { kStopped, kStarting, kRunning, kStopping, kBackoff, kFailed, kExited };

ServiceState StateOf(Phase phase);
const char* StateName(ServiceState state);  // "stopped", "starting", ...
const char* PhaseName(Phase phase);         // for messages of tests: "kStopped", ...

// Some process of the instance, or of its hooks, may exist in this phase.
bool IsAlive(Phase phase);
// On its way up, its outcome not yet known.
bool IsComingUp(Phase phase);

struct MachineState;
// When the driver has to send DeadlineReached.
MonoTime NextDeadline(const MachineState& state);
// Its process runs on until StopTurnCame: a deferred stop or restart.
bool AwaitsItsTurnToStop(const MachineState& state);
// Something of it is there and is on its way down, now or when its turn comes, for good or to be started again. False
// for one that cannot be stopped: nobody waits for that.
bool IsGoingDown(const MachineState& state);
// It is going down to be started again by request.
bool ComesBack(const MachineState& state);

// Who or what caused something, as events tell it.
struct Cause {
  std::string actor;   // "policy", "health check", "limit", "dependency", "supervisor", "uid 0 (root) pid 123 (...)"
  std::string reason;  // what the caller said (--reason); may be empty
  bool operator==(const Cause&) const = default;
};
const Cause& PolicyCause();

// What the machine needs to know of the configuration. Given anew with each step, so that a reload just changes it.
struct MachineConfig {
  RestartPolicyConfig restart;
  ReadinessConfig readiness;
  absl::Duration stop_timeout = absl::Seconds(10);  // zero: no limit, it is never killed
  absl::Duration stop_extension;                    // at most so much more by EXTEND_TIMEOUT_USEC; zero: any
  bool is_shutting_down = false;                    // the daemon is: no stop is extended
  int stop_signal = 15;                             // for messages
  bool has_stop_command = false;                    // which asks it to go, in the signal's place
  bool is_unhealthy = false;                        // by its checks, where they only alert
  bool has_pre_start = false;
  bool has_post_start = false;
  bool has_pre_stop = false;
  bool has_post_stop = false;
};

// What follows when nothing of the instance is left.
enum class Next { kPolicy, kRestart };

struct MachineState {
  Phase phase = Phase::kStopped;
  bool desired_up = false;
  Next next = Next::kPolicy;
  bool process_alive = false;             // the main process, from clone to reaping
  bool hook_cancelled = false;            // in kPreStart
  bool stop_hurried = false;              // its stop has no graceful time (any more)
  bool attempt_open = false;              // somebody may be waiting for the outcome of this start
  bool started_once = false;              // in this attempt: the process was exec'd, so post_stop applies
  bool is_restart = false;                // this attempt follows from the restart policy
  int attempts = 0;                       // restarts by policy after failures, since it last proved itself
  int restart_count = 0;                  // restarts by policy since an operator last started it
  MonoTime deadline = kNoDeadline;        // DeadlineReached is due then
  MonoTime first_deadline = kNoDeadline;  // as the phase began, before EXTEND_TIMEOUT_USEC
  MonoTime entered;                       // when the phase began; of an adopted process, when it came up
  MonoTime well_since = kNoDeadline;      // it has been up since then, and no run has failed; kNoDeadline: it is not
  MonoTime earliest_restart;              // kBackoff: the floor under the delay, whatever the policy says
  MonoTime spawn_allowance;               // bounds the spawn rate: see restart_policy.h
  MonoTime storm_allowance;               // the same for all instances together: lent by the driver for each step
  // sd_notify(3)'s watchdog: while it runs the service has to say WATCHDOG=1 at least this often. Zero: it need not.
  absl::Duration watchdog;
  MonoTime watchdog_deadline = kNoDeadline;  // DeadlineReached is due then too
  bool leaving = false;                      // in kTerminating: it said STOPPING=1, and nobody has asked it to
  bool reloading = false;                    // it said RELOADING=1, and not yet READY=1 again
  MonoTime ask_deadline = kNoDeadline;       // in kTerminating: the signal follows then, if the stop command did not do
  MonoTime killing_since;                    // in kKilling: the first SIGKILL
  // Why it cannot be stopped: callers have been answered, a shutdown leaves it behind. SIGKILL is repeated all the
  // same.
  std::string stuck;
  std::string stop_note;  // what is worth telling of how it is being stopped: the stop command failed, it was killed
  std::optional<WaitStatus> last_exit;
  std::string exit_why;   // of last_exit, where more is known than the status says: "out of memory (limit 64 MB)"
  bool exit_told = true;  // last_exit is in the events: each is told exactly once
  std::string failure;    // of this run, when it is not simply the exit: "unhealthy: HTTP 503"
  std::string reason;     // why it is in this state, for status
  Cause cause;            // of the present desired state
  uint64_t random = 1;    // state of the jitter's generator
};

// How its last process ended: "killed by SIGKILL: out of memory (limit 64 MB)". Requires last_exit.
std::string ExitText(const MachineState& state);

// ------------------------------------------------------------------------------------------------------------ events
struct StartRequested {
  Cause cause;
};
// Deferred: no longer wanted, but it runs on until StopTurnCame.
struct StopRequested {
  Cause cause;
  bool deferred = false;
};
// Deferred: it runs on until StopTurnCame.
struct RestartRequested {
  Cause cause;
  bool deferred = false;
};
// What depends on it is gone: a deferred stop or restart begins.
struct StopTurnCame {};
// Somebody who waits for its stop has lost patience: what is left of it is killed, now or when its turn comes.
struct StopHurried {};
// The start order lets it begin.
struct GateOpened {};
// A dependency has failed; the message names it. What was to start is blocked, and what was to be restarted runs on.
struct GateBlocked {
  std::string message;
};
enum class HookKind { kPreStart, kPostStart, kPreStop, kPostStop };
const char* HookName(HookKind kind);  // "pre_start", ...

struct HookEnded {
  HookKind kind;
  bool success = false;
  std::string message;
};
struct ExecSucceeded {
  int pid = 0;
  absl::Duration watchdog;  // WATCHDOG_USEC of its environment; zero: none
};
// The start failed, at whatever step; no process of it is left.
struct StartFailed {
  std::string message;
};
// By its health check; by uptime the machine sees itself.
struct BecameReady {};
// A reload has changed settings that a phase under way was begun with. They hold from now on, counted from the begin of
// the phase: a wait that has become shorter may be over.
struct SettingsChanged {
  bool restart_policy = false;
  bool readiness = false;
  bool stop_timeout = false;
};
// What the service says of itself by sd_notify(3); the driver has checked who speaks.
struct Notified {
  bool ready = false;
  bool stopping = false;
  bool reloading = false;
  bool alive = false;                      // WATCHDOG=1
  bool hung = false;                       // WATCHDOG=trigger
  std::optional<absl::Duration> watchdog;  // WATCHDOG_USEC=; zero switches it off
  absl::Duration extend;                   // EXTEND_TIMEOUT_USEC=; zero: not said
};
struct ProcessExited {
  WaitStatus status = WaitStatus::Unknown();
  bool tree_empty = true;  // nothing that it started is left
  std::string why = {};    // what is known beyond the status: "out of memory (limit 64 MB)"
};
// The main process and all that it started are gone.
struct TreeEmptied {};
// The stop command is over. It can have ended well without the service having gone.
struct StopCommandEnded {
  bool success = false;
  std::string message;
};
// The main process cannot be sent the graceful signal. The message says whose it is and why.
struct SignalRefused {
  std::string message;
};
// Something is left after a SIGKILL. The message says what, whose it is and why.
struct StillThere {
  std::string message;
  bool refused = false;  // the kernel did not permit the signal; else it was sent
};
struct CheckFailed {
  std::string message;
};
struct LimitExceeded {
  std::string message;
};
struct DeadlineReached {};
// An earlier daemon left it running.
struct Adopted {
  int pid = 0;
  bool ready = true;
  int attempts = 0;
  int restart_count = 0;
  absl::Duration watchdog = {};
  absl::Duration up_for = {};  // so long it has been up
  bool is_alive = true;        // false: it has ended meanwhile, and ProcessExited follows
};

// An earlier daemon has seen it come to rest, and nobody has asked for it since.
struct FoundAtRest {
  Phase phase = Phase::kStopped;  // kStopped, kExited, kFailed or kBackoff
  int attempts = 0;
  int restart_count = 0;
  std::optional<WaitStatus> last_exit = {};
  std::string failure = {};
  std::string reason = {};
  absl::Duration wait = {};  // kBackoff: what is left of it
};

using ServiceEvent = std::variant<StartRequested, StopRequested, RestartRequested, StopTurnCame, StopHurried,
                                  GateOpened, GateBlocked, HookEnded, ExecSucceeded, StartFailed, BecameReady, Notified,
                                  ProcessExited, TreeEmptied, StopCommandEnded, SignalRefused, StillThere, CheckFailed,
                                  LimitExceeded, DeadlineReached, Adopted, FoundAtRest, SettingsChanged>;

// ----------------------------------------------------------------------------------------------------------- actions
// Answered by HookEnded, but for kPostStart, whose failure is only told.
struct RunHook {
  HookKind kind;
};
// HookEnded follows.
struct CancelHook {};
// Answered by ExecSucceeded or StartFailed.
struct SpawnProcess {};
// The graceful signal. SignalRefused follows where it is not permitted.
struct TerminateTree {
  bool hung = false;  // it has stopped answering: SIGABRT, so that it leaves a core dump, as systemd does
};
// The configured command, in the signal's place. Answered by StopCommandEnded.
struct RunStopCommand {
  absl::Duration limit;  // then it is killed, and has failed
};
// SIGKILL to all of it. TreeEmptied follows (or the deadline, and this again), and StillThere where something is left.
struct KillTree {
  bool again = false;  // it was sent before
};
// An event for the record.
struct RecordEvent {
  std::string type;  // one of the contract's
  std::string message;
  Cause cause;
  std::optional<WaitStatus> exit;
  int attempt = 0;  // 0: none
  std::optional<absl::Duration> delay;
};
// The start that was asked for has its outcome: told exactly once for each.
struct AttemptEnded {
  bool success = false;
  std::string message;
};

using ServiceAction =
    std::variant<RunHook, CancelHook, SpawnProcess, TerminateTree, RunStopCommand, KillTree, RecordEvent, AttemptEnded>;

struct StepResult {
  MachineState state;
  std::vector<ServiceAction> actions;
};

// Total: every state answers every event; what makes no sense in a state changes nothing.
StepResult Step(const MachineConfig& config, MachineState state, const ServiceEvent& event, MonoTime now);

}  // namespace supervisor
