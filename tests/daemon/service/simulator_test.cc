// Random histories of one machine, with a model of the processes that its actions would have made. Each history comes
// from a seed, which a failure prints: SIMULATOR_SEED=n runs that one alone. SIMULATOR_HISTORIES=n runs more of them.

#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <optional>
#include <string>
#include <vector>

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
  config.has_pre_start = random.Chance(0.3);
  config.has_post_start = random.Chance(0.3);
  config.has_pre_stop = random.Chance(0.3);
  config.has_post_stop = random.Chance(0.3);
  return config;
}

// What the driver and the operating system would be: at most one main process, its children, and hooks.
struct World {
  enum class Process { kNone, kCloned, kRunning };
  Process process = Process::kNone;
  bool children = false;
  std::optional<HookKind> hook;
  bool post_start_hook = false;
  std::deque<MonoTime> policy_spawns;  // within the last second
  int exits = 0;
  int exits_told = 0;
  int attempts_begun = 0;
  int attempts_ended = 0;
};

class Simulator {
 public:
  explicit Simulator(uint64_t seed) : random_(seed), config_(RandomConfig(random_)) { state_.random = seed; }

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
    CheckInvariants();
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
    } else if (std::holds_alternative<TerminateTree>(action) || std::holds_alternative<KillTree>(action)) {
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
  }

  void Exit() {
    world_.process = World::Process::kNone;
    asked_to_go_ = false;
    ++world_.exits;
    world_.children = world_.children && random_.Chance(0.5);
    const WaitStatus status =
        random_.Chance(0.5) ? WaitStatus::Exited(random_.Below(3)) : WaitStatus::Signaled(SIGKILL);
    Send(ProcessExited{status, !world_.children});
  }

  void OneThing() {
    switch (random_.Below(13)) {
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
          Send(RestartRequested{{.actor = "tester", .reason = {}}});
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
        Send(random_.Chance(0.5) ? ServiceEvent(BecameReady{}) : ServiceEvent(CheckFailed{"HTTP 503"}));
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
      world_.process = World::Process::kRunning;
      Send(ExecSucceeded{42, absl::Milliseconds(random_.Chance(0.2) ? random_.Below(3000) : 0)});
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
        world_.process = World::Process::kRunning;
        Send(ExecSucceeded{42, {}});
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
  MachineState state_;
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
