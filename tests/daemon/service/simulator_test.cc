// Random histories of one machine and of its health checks, with a model of the processes that its actions would have
// made and of a checker whose answers come in any order, also late. Each history comes from a seed, which a failure
// prints: SIMULATOR_SEED=n runs that one alone. SIMULATOR_HISTORIES=n runs more of them.

#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "daemon/service/check_cycle.h"
#include "daemon/service/machine.h"
#include "daemon/service/restart_policy.h"

namespace supervisor {
namespace {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  int Below(int bound) { return static_cast<int>(NextRandom(state_) * bound); }
  bool Chance(double probability) { return NextRandom(state_) < probability; }

 private:
  uint64_t state_;
};

MachineConfig RandomConfig(Random& random) {
  MachineConfig config;
  config.restart.mode = static_cast<RestartMode>(random.Below(3));
  config.restart.delay = random.Chance(0.4) ? absl::ZeroDuration() : absl::Milliseconds(random.Below(3000));
  config.restart.backoff_multiplier = 1 + random.Below(2);
  config.restart.max_attempts = random.Below(5);
  config.restart.reset_after = absl::Seconds(random.Below(20));
  config.restart.jitter = random.Chance(0.5) ? 0 : 0.5;
  config.readiness.type = static_cast<ReadinessType>(random.Below(4));
  config.readiness.timeout = absl::Seconds(random.Below(5));
  config.stop_timeout = absl::Seconds(random.Below(4));
  config.has_stop_command = random.Chance(0.3);
  config.has_pre_start = random.Chance(0.3);
  config.has_post_start = random.Chance(0.3);
  config.has_pre_stop = random.Chance(0.3);
  config.has_post_stop = random.Chance(0.3);
  return config;
}

HealthCheckConfig RandomCheck(Random& random, const MachineConfig& machine) {
  HealthCheckConfig check;
  const bool needed = machine.readiness.type == ReadinessType::kHealthCheck;
  check.type = needed || random.Chance(0.7) ? HealthCheckType::kTcp : HealthCheckType::kNone;
  check.interval = absl::Milliseconds(1 + random.Below(500));
  check.retries = 1 + random.Below(3);
  check.success_threshold = 1 + random.Below(2);
  check.start_period = random.Chance(0.3) ? absl::Seconds(random.Below(20)) : absl::ZeroDuration();
  check.on_failure = random.Chance(0.7) ? OnFailure::kRestart : OnFailure::kAlert;
  return check;
}

// What the driver and the operating system would be: at most one main process, its children, and hooks.
struct World {
  enum class Process { kNone, kCloned, kRunning };
  Process process = Process::kNone;
  bool children = false;
  std::optional<HookKind> hook;
  bool post_start_hook = false;
  bool stop_command = false;
  bool signalled = false;              // this run was sent the graceful signal, or has said that it goes by itself
  std::deque<MonoTime> policy_spawns;  // within the last second
  int exits = 0;
  int exits_told = 0;
  int attempts_begun = 0;
  int attempts_ended = 0;
  // The checker's: every check that was begun and has not answered, cancelled ones too, with the process it is of.
  struct Check {
    uint64_t number;
    int process;
    bool cancelled;
  };
  std::vector<Check> checks;
  int processes = 0;          // so many there were
  bool seen_healthy = false;  // this one, by a check
  int failures = 0;           // of this one's checks, in a row
};

class Simulator {
 public:
  explicit Simulator(uint64_t seed)
      : random_(seed), config_(RandomConfig(random_)), check_(RandomCheck(random_, config_)) {
    state_.random = seed;
    cycle_.random = seed;
  }

  void Run(int steps) {
    for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) {
      now_ += absl::Milliseconds(random_.Below(random_.Chance(0.1) ? 5000 : 50));
      OneThing();
    }
    BringDown();
  }

 private:
  void Send(const ServiceEvent& event) {
    const bool was_open = state_.attempt_open;
    config_.is_unhealthy = cycle_.running && cycle_.verdict.health == Health::kUnhealthy;
    const bool by_request =
        std::holds_alternative<StartRequested>(event) || std::holds_alternative<RestartRequested>(event);
    StepResult result = Step(config_, state_, event, now_);
    state_ = std::move(result.state);
    int ended = 0;
    for (const ServiceAction& action : result.actions) {
      ended += std::holds_alternative<AttemptEnded>(action) ? 1 : 0;
      Perform(action);
    }
    // Attempts: begun = ended + still open. One step can end one and begin the next.
    const int begun = ended + (state_.attempt_open ? 1 : 0) - (was_open ? 1 : 0);
    ASSERT_GE(begun, 0) << "an outcome was told for a start that nobody had begun";
    ASSERT_LE(ended, by_request || was_open ? 1 : 0) << "a start has had two outcomes";
    world_.attempts_begun += begun;
    world_.attempts_ended += ended;
    if (StateOf(state_.phase) == ServiceState::kStopping) {
      Apply(EndChecks(cycle_));
    }
    CheckInvariants();
  }

  // ------------------------------------------------------------------------------------------------- health checks

  void Apply(const CheckCycleStep& step) {
    cycle_ = step.state;
    if (step.cancel_check) {
      for (World::Check& check : world_.checks) {
        check.cancelled = true;
      }
    }
    if (step.begin_check) {
      ASSERT_EQ(world_.process, World::Process::kRunning) << "a check of a process that is not there";
      ASSERT_NE(StateOf(state_.phase), ServiceState::kStopping);
      for (const World::Check& check : world_.checks) {
        ASSERT_TRUE(check.cancelled) << "two checks at once";
        ASSERT_NE(check.number, cycle_.check);
      }
      world_.checks.push_back({.number = cycle_.check, .process = world_.processes, .cancelled = false});
    }
    ASSERT_EQ(cycle_.due == kNoDeadline, !cycle_.running || cycle_.under_way) << "no check will ever come again";
  }

  void ProcessRuns() {
    world_.process = World::Process::kRunning;
    world_.signalled = StateOf(state_.phase) == ServiceState::kStopping;  // while it was cloned
    world_.stop_command = false;
    ++world_.processes;
    world_.seen_healthy = false;
    world_.failures = 0;
    Send(ExecSucceeded{42, absl::Milliseconds(random_.Chance(0.2) ? random_.Below(3000) : 0)});
    if (StateOf(state_.phase) != ServiceState::kStopping) {
      Apply(BeginChecks(check_, cycle_, config_.readiness.type == ReadinessType::kHealthCheck, std::nullopt, now_));
    }
  }

  void MakeCheck() {
    if (cycle_.due != kNoDeadline && random_.Chance(0.8)) {
      now_ = std::max(now_, cycle_.due);
    }
    Apply(CheckIsDue(cycle_, now_));
  }

  // Any check answers, one that was cancelled too: its answer had been on its way.
  void AnswerCheck() {
    if (world_.checks.empty()) {
      return;
    }
    const size_t which = static_cast<size_t>(random_.Below(static_cast<int>(world_.checks.size())));
    const World::Check check = world_.checks[which];
    world_.checks.erase(world_.checks.begin() + static_cast<std::ptrdiff_t>(which));
    const bool success = random_.Chance(0.6);
    const CheckCycleState before = cycle_;
    const CheckCycleStep step = TakeCheckResult(check_, cycle_, check.number, success, now_);
    ASSERT_EQ(step.took_result, !check.cancelled) << "an answer was lost, or came too late and counted";
    if (!step.took_result) {
      ASSERT_FALSE(step.became_healthy || step.became_unhealthy || step.wants_restart);
      ASSERT_EQ(step.state.due, before.due);
      ASSERT_EQ(step.state.under_way, before.under_way);
      ASSERT_EQ(step.state.verdict.checks, before.verdict.checks);
      ASSERT_EQ(step.state.verdict.health, before.verdict.health);
      return;
    }
    ASSERT_EQ(check.process, world_.processes) << "an answer about an earlier process";
    world_.seen_healthy = world_.seen_healthy || success;
    world_.failures = success ? 0 : world_.failures + 1;
    if (step.became_unhealthy) {
      ASSERT_GE(world_.failures, check_.retries) << "unhealthy too early";
    }
    if (step.became_unhealthy || step.wants_restart) {
      ASSERT_FALSE(before.awaits_readiness) << "a service that is yet to be ready was found not to live";
      ASSERT_EQ(step.state.verdict.health, Health::kUnhealthy);
    }
    Apply(step);
    if (step.became_healthy) {
      Apply(ServiceIsReady(cycle_));
      if (config_.readiness.type == ReadinessType::kHealthCheck) {
        Send(BecameReady{});
        ASSERT_NE(state_.phase, Phase::kBecomingReady);
      }
    }
    if (step.wants_restart) {
      Send(CheckFailed{"HTTP 503"});
    }
    const bool fails = !success && step.state.verdict.health == Health::kUnhealthy;
    if (fails && check_.on_failure == OnFailure::kRestart && config_.restart.mode != RestartMode::kNever) {
      ASSERT_FALSE(state_.phase == Phase::kRunning && state_.desired_up) << "it is unhealthy, and goes on";
    }
  }

  // The daemon dies and the next one adopts the process, with what the record says of it.
  void ChangeDaemon() {
    const bool ready = state_.phase == Phase::kRunning;
    if (world_.process != World::Process::kRunning || !state_.desired_up ||
        (!ready && state_.phase != Phase::kBecomingReady)) {
      return;
    }
    world_.attempts_ended += state_.attempt_open ? 1 : 0;  // who waited for it has lost the daemon, too
    world_.checks.clear();
    world_.post_start_hook = false;
    const VerdictState verdict = cycle_.verdict;
    const bool restarts = AwaitsItsTurnToStop(state_);
    const Adopted adopted{42, ready, state_.attempts, state_.restart_count, state_.watchdog};
    const uint64_t seed = state_.random;
    state_ = MachineState{};
    state_.random = seed;
    cycle_ = CheckCycleState{};
    cycle_.random = seed;
    Send(adopted);
    ASSERT_EQ(state_.phase == Phase::kRunning, ready);
    if (restarts) {  // it stands in the record
      Send(RestartRequested{{.actor = "supervisor", .reason = {}}, true});
      ASSERT_TRUE(AwaitsItsTurnToStop(state_));
    }
    const bool awaits = !ready && config_.readiness.type == ReadinessType::kHealthCheck;
    Apply(BeginChecks(check_, cycle_, awaits, verdict, now_));
    if (cycle_.running && !awaits) {
      ASSERT_EQ(cycle_.verdict.health, verdict.health) << "the verdict did not survive the daemon";
      ASSERT_EQ(cycle_.verdict.consecutive_failures, verdict.consecutive_failures);
    }
    world_.failures = awaits ? 0 : world_.failures;
  }

  void Perform(const ServiceAction& action) {
    if (std::holds_alternative<SpawnProcess>(action)) {
      ASSERT_EQ(world_.process, World::Process::kNone) << "a second process of one instance";
      ASSERT_FALSE(world_.children) << "started beside what an earlier run left behind";
      ASSERT_TRUE(wanted_) << "a stopped service has started by itself";
      world_.process = World::Process::kCloned;
      CountSpawn();
    } else if (const auto* hook = std::get_if<RunHook>(&action)) {
      if (hook->kind == HookKind::kPostStart) {
        world_.post_start_hook = true;
      } else {
        ASSERT_FALSE(world_.hook.has_value()) << "two hooks at once";
        world_.hook = hook->kind;
      }
    } else if (std::holds_alternative<CancelHook>(action)) {
      cancelled_ = true;
    } else if (std::holds_alternative<RunStopCommand>(action)) {
      ASSERT_EQ(world_.process, World::Process::kRunning) << "a stop command for what does not run";
      world_.stop_command = true;
      asked_to_go_ = true;
    } else if (std::holds_alternative<TerminateTree>(action) || std::holds_alternative<KillTree>(action)) {
      if (std::holds_alternative<TerminateTree>(action)) {
        world_.signalled = true;
      } else if (world_.process == World::Process::kRunning) {
        ASSERT_TRUE(world_.signalled) << "killed without having been asked by the signal";
      }
      asked_to_go_ = true;
      tells_empty_ = world_.process == World::Process::kNone && !world_.children;
    } else if (const auto* event = std::get_if<RecordEvent>(&action)) {
      world_.exits_told += event->exit && (event->type == "exited" || event->type == "stopped") ? 1 : 0;
    }
  }

  void CountSpawn() {
    if (!state_.is_restart) {
      world_.policy_spawns.clear();  // an operator may restart as fast as he likes
      return;
    }
    world_.policy_spawns.push_back(now_);
    while (world_.policy_spawns.front() < now_ - absl::Seconds(1)) {
      world_.policy_spawns.pop_front();
    }
    const auto most = static_cast<size_t>(kSpawnBucket.burst + absl::Seconds(1) / kSpawnBucket.spacing + 1);
    ASSERT_LE(world_.policy_spawns.size(), most) << "restarts without bound";
  }

  void CheckInvariants() {
    const bool something = world_.process != World::Process::kNone || world_.children || world_.hook.has_value();
    if (something) {
      ASSERT_TRUE(IsAlive(state_.phase)) << "something lives, and the machine is in " << PhaseName(state_.phase);
    }
    ASSERT_EQ(state_.process_alive, world_.process != World::Process::kNone);
    ASSERT_EQ(world_.attempts_begun, world_.attempts_ended + (state_.attempt_open ? 1 : 0));
    if (!IsAlive(state_.phase)) {
      ASSERT_EQ(world_.exits, world_.exits_told) << "an exit was told twice or never";
    }
    if (state_.phase == Phase::kStopped) {
      ASSERT_FALSE(state_.desired_up);
    }
    ASSERT_FALSE(!state_.stuck.empty() && state_.attempt_open) << "somebody waits for what cannot be stopped";
    ASSERT_FALSE(!state_.stuck.empty() && !IsAlive(state_.phase));
    if (AwaitsItsTurnToStop(state_) && state_.desired_up) {
      ASSERT_TRUE(state_.attempt_open) << "a restart that nobody is told of";
    }
    if (cycle_.running) {
      ASSERT_EQ(world_.process, World::Process::kRunning) << "checks without a process";
    }
    if (config_.readiness.type == ReadinessType::kHealthCheck && state_.phase == Phase::kRunning) {
      ASSERT_TRUE(world_.seen_healthy) << "ready, and no check has said so";
    }
  }

  void Exit() {
    world_.process = World::Process::kNone;
    Apply(EndChecks(cycle_));
    asked_to_go_ = false;
    ++world_.exits;
    world_.children = world_.children && random_.Chance(0.5);
    const WaitStatus status =
        random_.Chance(0.5) ? WaitStatus::Exited(random_.Below(3)) : WaitStatus::Signaled(SIGKILL);
    Send(ProcessExited{status, !world_.children});
  }

  void OneThing() {
    if (cycle_.running && random_.Chance(0.6)) {
      random_.Chance(0.5) ? MakeCheck() : AnswerCheck();
      return;
    }
    switch (random_.Below(18)) {
      case 15:
        Send(StopTurnCame{});
        return;
      case 16:
        if (world_.stop_command && random_.Chance(0.5)) {
          world_.stop_command = false;
          Send(StopCommandEnded{random_.Chance(0.5), "exited with code 1"});
        }
        return;
      case 17:
        TellOfSignals();
        return;
      case 0:
        wanted_ = true;
        Send(StartRequested{{.actor = "tester", .reason = {}}});
        return;
      case 1:
        wanted_ = false;
        Send(StopRequested{{.actor = "tester", .reason = {}}, random_.Chance(0.3)});
        return;
      case 2:
        if (random_.Chance(0.4)) {
          wanted_ = true;
          Send(RestartRequested{{.actor = "tester", .reason = {}}, random_.Chance(0.5)});
        }
        return;
      case 3:
        if (random_.Chance(0.8)) {
          Send(GateOpened{});
        } else {
          Send(GateBlocked{"dependency db has failed"});
        }
        return;
      case 4:
        EndHook();
        return;
      case 5:
      case 6:
        ProgressStart();
        return;
      case 7:
        if (world_.process == World::Process::kRunning) {
          Exit();
        }
        return;
      case 8:
        EmptyTree();
        return;
      case 9:
        if (random_.Chance(0.1)) {
          ChangeDaemon();
        }
        return;
      case 13:
        AnswerCheck();  // late, for the most part
        return;
      case 14:
        MakeCheck();
        return;
      case 12:
        Notify();
        return;
      case 10:
        if (world_.process == World::Process::kRunning) {
          world_.children = true;
        }
        return;
      default:
        Send(DeadlineReached{});
        return;
    }
  }

  // What the driver tells of signals that did not do, of the stop under way or, late, of an earlier one.
  void TellOfSignals() {
    if (random_.Chance(0.3)) {
      Send(SignalRefused{"not permitted"});
    } else {
      Send(StillThere{"pid 42 is still there", random_.Chance(0.5)});
    }
  }

  void Notify() {
    if (world_.process != World::Process::kRunning) {
      return;  // the driver lets nobody else speak
    }
    Notified said{.ready = random_.Chance(0.5),
                  .stopping = random_.Chance(0.1),
                  .reloading = random_.Chance(0.2),
                  .alive = random_.Chance(0.3),
                  .hung = random_.Chance(0.1),
                  .watchdog = {},
                  .extend = absl::Milliseconds(random_.Chance(0.2) ? random_.Below(3000) : 0)};
    if (random_.Chance(0.2)) {
      said.watchdog = absl::Milliseconds(random_.Below(3000));
    }
    world_.signalled = world_.signalled || said.stopping;
    Send(said);
  }

  // The driver's promise: once nothing is left of a tree that was asked to go, it says so.
  void EmptyTree() {
    if (world_.process == World::Process::kNone && (world_.children || tells_empty_)) {
      world_.children = false;
      tells_empty_ = false;
      Send(TreeEmptied{});
    }
  }

  void ProgressStart() {
    if (world_.process != World::Process::kCloned) {
      return;
    }
    if (random_.Chance(0.8)) {
      ProcessRuns();
    } else {
      world_.process = World::Process::kNone;
      Send(StartFailed{"command: No such file or directory"});
    }
  }

  void EndHook() {
    if (world_.post_start_hook && random_.Chance(0.5)) {
      world_.post_start_hook = false;
      Send(HookEnded{HookKind::kPostStart, random_.Chance(0.7), "post_start"});
    } else if (world_.hook) {
      const HookKind kind = *std::exchange(world_.hook, std::nullopt);
      const bool success = !std::exchange(cancelled_, false) && random_.Chance(0.7);
      Send(HookEnded{kind, success, "hook"});
    }
  }

  // After a stop, and with everything doing what it was asked, nothing may be left.
  void BringDown() {
    wanted_ = false;
    Send(StopRequested{{.actor = "tester", .reason = {}}, false});
    for (int i = 0; i < 100 && state_.phase != Phase::kStopped && !::testing::Test::HasFailure(); ++i) {
      now_ += absl::Seconds(10);
      Send(DeadlineReached{});
      if (world_.process == World::Process::kCloned) {
        ProcessRuns();
      }
      if (world_.process == World::Process::kRunning && asked_to_go_) {
        Exit();
      }
      EmptyTree();
      EndHook();
    }
    ASSERT_EQ(state_.phase, Phase::kStopped) << "it does not come to rest, but stays in " << PhaseName(state_.phase);
    ASSERT_EQ(world_.attempts_begun, world_.attempts_ended) << "a start has had no outcome";
    ASSERT_EQ(world_.exits, world_.exits_told);
  }

  Random random_;
  MachineConfig config_;
  HealthCheckConfig check_;
  MachineState state_;
  CheckCycleState cycle_;
  World world_;
  MonoTime now_ = absl::Seconds(1);
  bool wanted_ = false;
  bool cancelled_ = false;
  bool asked_to_go_ = false;
  bool tells_empty_ = false;  // asked to go when nothing was left any more
};

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): one thread
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

TEST(Simulator, NoHistoryBreaksTheInvariants) {
  constexpr uint64_t kHistories = 4000;
  constexpr int kSteps = 400;
  const uint64_t only = FromEnvironment("SIMULATOR_SEED", 0);
  const uint64_t histories = FromEnvironment("SIMULATOR_HISTORIES", kHistories);
  for (uint64_t seed = only != 0 ? only : 1; seed <= (only != 0 ? only : histories); ++seed) {
    SCOPED_TRACE("SIMULATOR_SEED=" + std::to_string(seed));
    Simulator(seed).Run(kSteps);
    if (::testing::Test::HasFailure()) {
      return;
    }
  }
}

}  // namespace
}  // namespace supervisor
