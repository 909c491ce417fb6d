// Every pair of a phase and an event: which phase follows. A table, so that nobody can add a phase or an event without
// deciding what they mean to each other.

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <string>
#include <tuple>

#include "daemon/service/machine.h"

namespace supervisor {
namespace {

constexpr std::array kPhases = {Phase::kStopped,     Phase::kWaiting,       Phase::kBlocked,  Phase::kPreStart,
                                Phase::kSpawning,    Phase::kBecomingReady, Phase::kRunning,  Phase::kPreStop,
                                Phase::kTerminating, Phase::kKilling,       Phase::kPostStop, Phase::kBackoff,
                                Phase::kFailed,      Phase::kExited};
static_assert(kPhases.size() == static_cast<size_t>(Phase::kExited) + 1, "a phase is missing here");

struct Column {
  const char* name;
  ServiceEvent event;
};

const std::vector<Column>& Columns() {
  static const Cause cause{.actor = "tester", .reason = {}};
  static const std::vector<Column> columns = {
      {"start", StartRequested{cause}},
      {"stop", StopRequested{cause, false}},
      {"defer", StopRequested{cause, true}},
      {"restart", RestartRequested{cause}},
      {"defer restart", RestartRequested{cause, true}},
      {"turn", StopTurnCame{}},
      {"hurry", StopHurried{}},
      {"gate", GateOpened{}},
      {"block", GateBlocked{"blocked"}},
      {"pre_start", HookEnded{HookKind::kPreStart, true, ""}},
      {"pre_start!", HookEnded{HookKind::kPreStart, false, "failed"}},
      {"post_start!", HookEnded{HookKind::kPostStart, false, "failed"}},
      {"pre_stop", HookEnded{HookKind::kPreStop, true, ""}},
      {"post_stop", HookEnded{HookKind::kPostStop, true, ""}},
      {"exec", ExecSucceeded{42, {}}},
      {"exec!", StartFailed{"failed"}},
      {"ready", BecameReady{}},
      {"notify ready", Notified{.ready = true, .watchdog = {}, .extend = {}}},
      {"notify stopping", Notified{.stopping = true, .watchdog = {}, .extend = {}}},
      {"notify reloading", Notified{.reloading = true, .watchdog = {}, .extend = {}}},
      {"notify alive", Notified{.alive = true, .watchdog = {}, .extend = {}}},
      {"notify hung", Notified{.hung = true, .watchdog = {}, .extend = {}}},
      {"notify watchdog", Notified{.watchdog = absl::Seconds(5), .extend = {}}},
      {"notify extend", Notified{.watchdog = {}, .extend = absl::Seconds(5)}},
      {"exit", ProcessExited{WaitStatus::Exited(1), true}},
      {"exit+rest", ProcessExited{WaitStatus::Exited(1), false}},
      {"empty", TreeEmptied{}},
      {"command", StopCommandEnded{true, ""}},
      {"command!", StopCommandEnded{false, "failed"}},
      {"refused", SignalRefused{"not permitted"}},
      {"left", StillThere{"is still there", false}},
      {"left!", StillThere{"not permitted", true}},
      {"unhealthy", CheckFailed{"bad"}},
      {"limit", LimitExceeded{"too much"}},
      {"deadline", DeadlineReached{}},
      {"adopt", Adopted{42, true, 0, 0, {}}},
      {"at rest", FoundAtRest{.phase = Phase::kExited}},
      {"at rest!", FoundAtRest{.phase = Phase::kFailed}},
      {"settings", SettingsChanged{.restart_policy = true, .readiness = true, .stop_timeout = true}},
  };
  return columns;
}

// A state as it is in this phase while the service is wanted.
MachineState StateIn(Phase phase) {
  MachineState state;
  state.phase = phase;
  state.desired_up = phase != Phase::kStopped;
  state.process_alive = phase == Phase::kSpawning || phase == Phase::kBecomingReady || phase == Phase::kRunning ||
                        phase == Phase::kPreStop || phase == Phase::kTerminating || phase == Phase::kKilling;
  state.attempt_open = IsComingUp(phase);
  state.started_once = IsAlive(phase) && phase != Phase::kPreStart && phase != Phase::kSpawning;
  state.deadline = absl::Seconds(1);
  return state;
}

// What follows, where it is another phase than before.
const std::map<std::tuple<Phase, std::string>, Phase>& Expected() {
  static const std::map<std::tuple<Phase, std::string>, Phase> expected = {
      {{Phase::kStopped, "start"}, Phase::kWaiting},
      {{Phase::kStopped, "restart"}, Phase::kWaiting},
      {{Phase::kStopped, "defer restart"}, Phase::kWaiting},
      {{Phase::kStopped, "adopt"}, Phase::kRunning},
      {{Phase::kStopped, "at rest"}, Phase::kExited},
      {{Phase::kStopped, "at rest!"}, Phase::kFailed},
      {{Phase::kWaiting, "stop"}, Phase::kStopped},
      {{Phase::kWaiting, "defer"}, Phase::kStopped},
      {{Phase::kWaiting, "gate"}, Phase::kPreStart},
      {{Phase::kWaiting, "block"}, Phase::kBlocked},
      {{Phase::kBlocked, "start"}, Phase::kWaiting},
      {{Phase::kBlocked, "restart"}, Phase::kWaiting},
      {{Phase::kBlocked, "defer restart"}, Phase::kWaiting},
      {{Phase::kBlocked, "stop"}, Phase::kStopped},
      {{Phase::kBlocked, "defer"}, Phase::kStopped},
      {{Phase::kBlocked, "gate"}, Phase::kPreStart},
      {{Phase::kPreStart, "pre_start"}, Phase::kSpawning},
      {{Phase::kPreStart, "pre_start!"}, Phase::kBackoff},
      {{Phase::kSpawning, "stop"}, Phase::kTerminating},
      {{Phase::kSpawning, "restart"}, Phase::kTerminating},
      {{Phase::kSpawning, "exec"}, Phase::kBecomingReady},
      {{Phase::kSpawning, "exec!"}, Phase::kBackoff},
      {{Phase::kSpawning, "exit"}, Phase::kBackoff},
      {{Phase::kSpawning, "exit+rest"}, Phase::kTerminating},
      {{Phase::kBecomingReady, "stop"}, Phase::kPreStop},
      {{Phase::kBecomingReady, "restart"}, Phase::kPreStop},
      {{Phase::kBecomingReady, "exec!"}, Phase::kPostStop},
      {{Phase::kBecomingReady, "ready"}, Phase::kRunning},
      {{Phase::kBecomingReady, "notify ready"}, Phase::kRunning},
      {{Phase::kBecomingReady, "exit"}, Phase::kPostStop},
      {{Phase::kBecomingReady, "exit+rest"}, Phase::kTerminating},
      {{Phase::kBecomingReady, "deadline"}, Phase::kPreStop},
      {{Phase::kRunning, "stop"}, Phase::kPreStop},
      {{Phase::kRunning, "restart"}, Phase::kPreStop},
      {{Phase::kRunning, "exec!"}, Phase::kPostStop},
      {{Phase::kRunning, "exit"}, Phase::kPostStop},
      {{Phase::kRunning, "exit+rest"}, Phase::kTerminating},
      {{Phase::kRunning, "notify stopping"}, Phase::kTerminating},
      {{Phase::kRunning, "notify hung"}, Phase::kTerminating},
      {{Phase::kRunning, "unhealthy"}, Phase::kPreStop},
      {{Phase::kRunning, "limit"}, Phase::kPreStop},
      {{Phase::kPreStop, "pre_stop"}, Phase::kTerminating},
      {{Phase::kPreStop, "exec!"}, Phase::kPostStop},
      {{Phase::kTerminating, "exec!"}, Phase::kPostStop},
      {{Phase::kTerminating, "exit"}, Phase::kPostStop},
      {{Phase::kTerminating, "deadline"}, Phase::kKilling},
      {{Phase::kKilling, "exec!"}, Phase::kPostStop},
      {{Phase::kKilling, "exit"}, Phase::kPostStop},
      {{Phase::kPostStop, "post_stop"}, Phase::kBackoff},
      {{Phase::kBackoff, "start"}, Phase::kWaiting},
      {{Phase::kBackoff, "restart"}, Phase::kWaiting},
      {{Phase::kBackoff, "defer restart"}, Phase::kWaiting},
      {{Phase::kBackoff, "stop"}, Phase::kStopped},
      {{Phase::kBackoff, "defer"}, Phase::kStopped},
      {{Phase::kBackoff, "deadline"}, Phase::kWaiting},
      {{Phase::kFailed, "start"}, Phase::kWaiting},
      {{Phase::kFailed, "restart"}, Phase::kWaiting},
      {{Phase::kFailed, "defer restart"}, Phase::kWaiting},
      {{Phase::kFailed, "stop"}, Phase::kStopped},
      {{Phase::kFailed, "defer"}, Phase::kStopped},
      {{Phase::kExited, "start"}, Phase::kWaiting},
      {{Phase::kExited, "restart"}, Phase::kWaiting},
      {{Phase::kExited, "defer restart"}, Phase::kWaiting},
      {{Phase::kExited, "stop"}, Phase::kStopped},
      {{Phase::kExited, "defer"}, Phase::kStopped},
  };
  return expected;
}

TEST(MachineTable, EveryPhaseAnswersEveryEvent) {
  MachineConfig config;
  config.has_pre_start = config.has_post_start = config.has_pre_stop = config.has_post_stop = true;
  config.readiness.type = ReadinessType::kNotify;
  size_t pairs = 0;
  for (const Phase phase : kPhases) {
    for (const Column& column : Columns()) {
      const StepResult result = Step(config, StateIn(phase), column.event, absl::Seconds(10));
      const auto entry = Expected().find({phase, column.name});
      const Phase expected = entry == Expected().end() ? phase : entry->second;
      EXPECT_EQ(result.state.phase, expected) << PhaseName(phase) << " + " << column.name << " went to "
                                              << PhaseName(result.state.phase) << ", not " << PhaseName(expected);
      ++pairs;
    }
  }
  EXPECT_EQ(pairs, kPhases.size() * Columns().size());
}

TEST(MachineTable, EveryKindOfEventIsInTheTable) {
  std::map<size_t, int> seen;
  for (const Column& column : Columns()) {
    ++seen[column.event.index()];
  }
  EXPECT_EQ(seen.size(), std::variant_size_v<ServiceEvent>);
}

// What does not move the machine must not make it act either, but for the few that are named.
TEST(MachineTable, WhatMeansNothingDoesNothing) {
  MachineConfig config;
  for (const Phase phase : {Phase::kStopped, Phase::kFailed, Phase::kExited, Phase::kBackoff}) {
    for (const char* name : {"gate",         "block",        "pre_start",       "pre_stop",
                             "post_stop",    "exec",         "exec!",           "ready",
                             "exit",         "notify ready", "notify stopping", "notify reloading",
                             "notify alive", "notify hung",  "notify watchdog", "notify extend",
                             "empty",        "unhealthy",    "limit",           "turn",
                             "command",      "command!",     "refused",         "left",
                             "left!",        "settings"}) {
      for (const Column& column : Columns()) {
        if (column.name == std::string(name)) {
          EXPECT_TRUE(Step(config, StateIn(phase), column.event, absl::Seconds(0)).actions.empty())
              << PhaseName(phase) << " + " << name;
        }
      }
    }
  }
}

TEST(MachineTable, EveryPhaseHasItsNameAndState) {
  for (const Phase phase : kPhases) {
    EXPECT_NE(std::string(PhaseName(phase)), "?");
    EXPECT_FALSE(std::string(StateName(StateOf(phase))).empty());
  }
}

}  // namespace
}  // namespace supervisor
