#include "daemon/service/machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "tests/daemon/service/machine_harness.h"

namespace supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(Machine, StartsWhenItsTurnComes) {
  MachineHarness machine;
  machine.Start();
  EXPECT_EQ(machine.state.phase, Phase::kWaiting);
  EXPECT_FALSE(machine.Did<SpawnProcess>());
  machine.Send(GateOpened{});
  EXPECT_EQ(machine.state.phase, Phase::kSpawning);
  EXPECT_TRUE(machine.Did<SpawnProcess>());
  machine.Send(ExecSucceeded{42, {}});
  EXPECT_EQ(machine.state.phase, Phase::kRunning);
  EXPECT_THAT(machine.Recorded(), ElementsAre("started"));
  ASSERT_EQ(machine.Of<AttemptEnded>().size(), 1u);
  EXPECT_TRUE(machine.Of<AttemptEnded>().front().success);
}

TEST(Machine, AFailedStartTellsWhyAndBacksOff) {
  MachineHarness machine;
  machine.Start().Send(GateOpened{}).Send(StartFailed{"cannot start web: working_directory /srv: No such file"});
  EXPECT_EQ(machine.state.phase, Phase::kBackoff);
  EXPECT_THAT(machine.state.reason, HasSubstr("working_directory /srv"));
  EXPECT_THAT(machine.Recorded(), ElementsAre("failed", "restarting"));
  ASSERT_EQ(machine.Of<AttemptEnded>().size(), 1u);
  EXPECT_FALSE(machine.Of<AttemptEnded>().front().success);
  EXPECT_THAT(machine.Of<AttemptEnded>().front().message, HasSubstr("working_directory"));
}

TEST(Machine, WhatIsKnownOfAnExitBeyondItsStatusIsToldEverywhere) {
  const std::string text = "killed by SIGKILL: out of memory (limit 64 MB)";
  MachineHarness machine;
  machine.config.restart.max_attempts = 1;
  machine.RunUntilReady().Exit(WaitStatus::Signaled(SIGKILL), true, "out of memory (limit 64 MB)");
  EXPECT_EQ(ExitText(machine.state), text);
  EXPECT_THAT(machine.state.reason, HasSubstr(text));
  EXPECT_THAT(machine.Recorded(), ElementsAre("exited", "restarting"));
  EXPECT_EQ(machine.Of<RecordEvent>().front().message, text);
  EXPECT_THAT(machine.Of<RecordEvent>().back().message, HasSubstr(text));
  machine.Elapse().Send(GateOpened{}).Send(ExecSucceeded{43, {}});
  EXPECT_THAT(machine.Of<RecordEvent>().front().message, HasSubstr(text));
  machine.Exit(WaitStatus::Signaled(SIGKILL));  // and the next one has its own text
  EXPECT_EQ(machine.state.phase, Phase::kFailed);
  EXPECT_EQ(machine.Of<RecordEvent>().front().message, "killed by SIGKILL");
}

TEST(Machine, ACrashIsToldAndRestartedAfterTheDelay) {
  MachineHarness machine;
  machine.RunUntilReady().Exit(WaitStatus::Signaled(SIGKILL));
  EXPECT_EQ(machine.state.phase, Phase::kBackoff);
  EXPECT_THAT(machine.Recorded(), ElementsAre("exited", "restarting"));
  for (const RecordEvent& event : machine.Of<RecordEvent>()) {
    EXPECT_THAT(event.message, HasSubstr("SIGKILL"));
    ASSERT_TRUE(event.exit.has_value());
    EXPECT_EQ(event.exit->signal(), SIGKILL);
  }
  EXPECT_EQ(machine.state.deadline, machine.now + absl::Seconds(5));
  EXPECT_EQ(machine.state.restart_count, 0);
  machine.Elapse();
  EXPECT_EQ(machine.state.phase, Phase::kWaiting);
  EXPECT_EQ(machine.state.restart_count, 1);
  machine.Send(GateOpened{}).Send(ExecSucceeded{43, {}});
  ASSERT_EQ(machine.Of<RecordEvent>().size(), 1u);
  EXPECT_THAT(machine.Of<RecordEvent>().front().message, HasSubstr("killed by SIGKILL"));
  EXPECT_EQ(machine.Of<RecordEvent>().front().cause.actor, "policy");
}

TEST(Machine, WithoutADelayItRestartsInTheSameStep) {
  MachineHarness machine;
  machine.config.restart.delay = absl::ZeroDuration();
  machine.RunUntilReady().Exit(WaitStatus::Exited(1));
  EXPECT_EQ(machine.state.phase, Phase::kWaiting);
  EXPECT_EQ(machine.state.restart_count, 1);
}

TEST(Machine, GivesUpAfterMaxAttempts) {
  MachineHarness machine;
  machine.config.restart.max_attempts = 2;
  machine.RunUntilReady();
  for (int i = 0; i < 2; ++i) {
    machine.Exit(WaitStatus::Exited(1));
    ASSERT_EQ(machine.state.phase, Phase::kBackoff);
    machine.Elapse().Send(GateOpened{}).Send(ExecSucceeded{42, {}});
  }
  machine.Exit(WaitStatus::Exited(1));
  EXPECT_EQ(machine.state.phase, Phase::kFailed);
  EXPECT_EQ(machine.state.restart_count, 2);
  EXPECT_THAT(machine.Recorded(), ElementsAre("exited", "failed"));
  EXPECT_THAT(machine.state.reason, HasSubstr("gave up after 2 restarts"));
}

TEST(Machine, AttemptsAreForgottenOnceItHasProvedItself) {
  MachineHarness machine;
  machine.RunUntilReady().Exit(WaitStatus::Exited(1));
  machine.Elapse().Send(GateOpened{}).Send(ExecSucceeded{42, {}});
  EXPECT_EQ(machine.state.attempts, 1);
  EXPECT_EQ(machine.state.deadline, machine.now + machine.config.restart.reset_after);
  machine.Elapse();
  EXPECT_EQ(machine.state.attempts, 0);
  EXPECT_EQ(machine.state.restart_count, 1);
  EXPECT_EQ(machine.state.phase, Phase::kRunning);
}

TEST(Machine, AnOperatorsRestartClearsTheCounters) {
  MachineHarness machine;
  machine.RunUntilReady().Exit(WaitStatus::Exited(1));
  machine.Elapse().Send(GateOpened{}).Send(ExecSucceeded{42, {}}).Restart();
  EXPECT_EQ(machine.state.phase, Phase::kTerminating);
  EXPECT_TRUE(machine.Did<TerminateTree>());
  machine.Exit(WaitStatus::Signaled(SIGTERM));
  EXPECT_THAT(machine.Recorded(), ElementsAre("exited"));
  EXPECT_EQ(machine.state.phase, Phase::kWaiting);
  EXPECT_EQ(machine.state.attempts, 0);
  EXPECT_EQ(machine.state.restart_count, 0);
}

TEST(Machine, AOneOffThatEndsWellHasExited) {
  MachineHarness machine;
  machine.config.restart.mode = RestartMode::kOnFailure;
  machine.config.restart.success_exit_codes = {0, 3};
  machine.RunUntilReady().Exit(WaitStatus::Exited(3));
  EXPECT_EQ(machine.state.phase, Phase::kExited);
  EXPECT_EQ(machine.state.reason, "exited with code 3");
}

TEST(Machine, AOneOffThatEndsWellBeforeItWasReadyHasNotFailed) {
  MachineHarness machine;
  machine.config.restart.mode = RestartMode::kNever;
  machine.config.readiness.type = ReadinessType::kUptime;
  machine.RunUntilReady().Exit(WaitStatus::Exited(0));
  EXPECT_EQ(machine.state.phase, Phase::kExited);
  ASSERT_EQ(machine.Of<AttemptEnded>().size(), 1u);
  EXPECT_TRUE(machine.Of<AttemptEnded>().front().success);
}

TEST(Machine, ModeNeverDoesNotRestartAFailure) {
  MachineHarness machine;
  machine.config.restart.mode = RestartMode::kNever;
  machine.RunUntilReady().Exit(WaitStatus::Signaled(SIGSEGV, true));
  EXPECT_EQ(machine.state.phase, Phase::kFailed);
  EXPECT_THAT(machine.state.reason, HasSubstr("killed by SIGSEGV (core dumped)"));
}

TEST(Machine, StopIsAskedFirstAndKillsAtTheDeadline) {
  MachineHarness machine;
  machine.RunUntilReady().Stop();
  EXPECT_EQ(machine.state.phase, Phase::kTerminating);
  EXPECT_TRUE(machine.Did<TerminateTree>());
  EXPECT_EQ(machine.state.deadline, machine.now + machine.config.stop_timeout);
  machine.Elapse();
  EXPECT_EQ(machine.state.phase, Phase::kKilling);
  EXPECT_TRUE(machine.Did<KillTree>());
  machine.Elapse();
  EXPECT_TRUE(machine.Did<KillTree>()) << "it is tried until it is gone";
  machine.Exit(WaitStatus::Signaled(SIGKILL));
  EXPECT_EQ(machine.state.phase, Phase::kStopped);
  EXPECT_THAT(machine.Recorded(), ElementsAre("stopped"));
  EXPECT_THAT(machine.state.reason, HasSubstr("stopped by tester"));
}

TEST(Machine, StoppedMeansThatTheWholeTreeIsGone) {
  MachineHarness machine;
  machine.RunUntilReady().Stop().Exit(WaitStatus::Signaled(SIGTERM), false);
  EXPECT_EQ(machine.state.phase, Phase::kTerminating);
  machine.Send(TreeEmptied{});
  EXPECT_EQ(machine.state.phase, Phase::kStopped);
}

TEST(Machine, WhatACrashLeavesBehindGoesBeforeTheRestart) {
  MachineHarness machine;
  machine.RunUntilReady().Exit(WaitStatus::Exited(1), false);
  EXPECT_EQ(machine.state.phase, Phase::kTerminating);
  EXPECT_TRUE(machine.Did<TerminateTree>());
  machine.Send(TreeEmptied{});
  EXPECT_EQ(machine.state.phase, Phase::kBackoff);
}

TEST(Machine, ABackoffCanBeStopped) {
  MachineHarness machine;
  machine.RunUntilReady().Exit(WaitStatus::Exited(1)).Stop();
  EXPECT_EQ(machine.state.phase, Phase::kStopped);
  EXPECT_EQ(machine.state.deadline, kNoDeadline);
}

TEST(Machine, AStopDuringAStartEndsTheAttemptOnce) {
  MachineHarness machine;
  machine.Start().Send(GateOpened{}).Stop();
  ASSERT_EQ(machine.Of<AttemptEnded>().size(), 1u);
  EXPECT_FALSE(machine.Of<AttemptEnded>().front().success);
  EXPECT_EQ(machine.state.phase, Phase::kTerminating);
  machine.Send(StartFailed{"stopped before it was started"});
  EXPECT_FALSE(machine.Did<AttemptEnded>());
  EXPECT_EQ(machine.state.phase, Phase::kStopped);
}

TEST(Machine, AStartDuringAStopStartsAgainAfterwards) {
  MachineHarness machine;
  machine.RunUntilReady().Stop().Start();
  EXPECT_EQ(machine.state.phase, Phase::kTerminating);
  machine.Exit(WaitStatus::Signaled(SIGTERM));
  EXPECT_EQ(machine.state.phase, Phase::kWaiting);
  EXPECT_TRUE(machine.state.attempt_open);
}

TEST(Machine, ADeferredStopWaitsAndAnExitMeanwhileIsFinal) {
  MachineHarness machine;
  machine.RunUntilReady().Stop(true);
  EXPECT_EQ(machine.state.phase, Phase::kRunning);
  EXPECT_THAT(machine.actions, IsEmpty());
  machine.Exit(WaitStatus::Exited(0));
  EXPECT_EQ(machine.state.phase, Phase::kStopped);
}

TEST(Machine, EachExitIsToldExactlyOnce) {
  MachineHarness machine;
  machine.RunUntilReady().Stop(true).Exit(WaitStatus::Exited(7));
  int told = 0;
  for (const RecordEvent& event : machine.Of<RecordEvent>()) {
    told += event.exit ? 1 : 0;
  }
  EXPECT_EQ(told, 1);
}

TEST(Machine, AFailingPreStartFailsTheStart) {
  MachineHarness machine;
  machine.config.has_pre_start = true;
  machine.Start().Send(GateOpened{});
  EXPECT_EQ(machine.state.phase, Phase::kPreStart);
  EXPECT_FALSE(machine.Did<SpawnProcess>());
  machine.Send(HookEnded{HookKind::kPreStart, false, "exited with code 1: no database"});
  EXPECT_EQ(machine.state.phase, Phase::kBackoff);
  ASSERT_EQ(machine.Of<AttemptEnded>().size(), 1u);
  EXPECT_THAT(machine.Of<AttemptEnded>().front().message, HasSubstr("pre_start hook: exited with code 1: no database"));
}

TEST(Machine, HooksRunAroundTheProcess) {
  MachineHarness machine;
  machine.config.has_pre_start = machine.config.has_post_start = true;
  machine.config.has_pre_stop = machine.config.has_post_stop = true;
  machine.Start().Send(GateOpened{}).Send(HookEnded{HookKind::kPreStart, true, ""});
  EXPECT_TRUE(machine.Did<SpawnProcess>());
  machine.Send(ExecSucceeded{42, {}});
  ASSERT_TRUE(machine.Did<RunHook>());
  EXPECT_EQ(machine.Of<RunHook>().front().kind, HookKind::kPostStart);
  machine.Send(HookEnded{HookKind::kPostStart, true, ""}).Stop();
  EXPECT_EQ(machine.state.phase, Phase::kPreStop);
  EXPECT_FALSE(machine.Did<TerminateTree>());
  machine.Send(HookEnded{HookKind::kPreStop, false, "it fails, and the stop goes on"});
  EXPECT_TRUE(machine.Did<TerminateTree>());
  machine.Exit(WaitStatus::Signaled(SIGTERM));
  EXPECT_EQ(machine.state.phase, Phase::kPostStop);
  machine.Send(HookEnded{HookKind::kPostStop, true, ""});
  EXPECT_EQ(machine.state.phase, Phase::kStopped);
}

TEST(Machine, AHookThatOutlivesItsRunIsNotTakenForAnother) {
  MachineHarness machine;
  machine.config.has_post_start = machine.config.has_post_stop = true;
  machine.RunUntilReady().Stop().Exit(WaitStatus::Signaled(SIGTERM));
  ASSERT_EQ(machine.state.phase, Phase::kPostStop);
  machine.Send(HookEnded{HookKind::kPostStart, true, ""});
  EXPECT_EQ(machine.state.phase, Phase::kPostStop);
}

TEST(Machine, ReadinessByUptime) {
  MachineHarness machine;
  machine.config.readiness.type = ReadinessType::kUptime;
  machine.RunUntilReady();
  EXPECT_EQ(machine.state.phase, Phase::kBecomingReady);
  machine.Elapse();
  EXPECT_EQ(machine.state.phase, Phase::kRunning);
  EXPECT_THAT(machine.Recorded(), ElementsAre("ready"));
}

TEST(Machine, NotReadyInTimeIsAFailedStart) {
  MachineHarness machine;
  machine.config.readiness.type = ReadinessType::kNotify;
  machine.RunUntilReady().Elapse();
  EXPECT_EQ(machine.state.phase, Phase::kTerminating);
  EXPECT_FALSE(machine.Did<AttemptEnded>()) << "not before nothing of it is left";
  machine.Exit(WaitStatus::Signaled(SIGTERM));
  ASSERT_EQ(machine.Of<AttemptEnded>().size(), 1u);
  EXPECT_THAT(machine.Of<AttemptEnded>().front().message, HasSubstr("not ready after 1m 0s"));
  EXPECT_EQ(machine.state.phase, Phase::kBackoff);
}

TEST(Machine, UnhealthyIsRestartedByPolicy) {
  MachineHarness machine;
  machine.RunUntilReady().Send(CheckFailed{"HTTP 503 (expected 200)"});
  EXPECT_EQ(machine.state.phase, Phase::kTerminating);
  machine.Exit(WaitStatus::Exited(0));
  EXPECT_EQ(machine.state.phase, Phase::kBackoff) << "an exit code of 0 does not make it well";
  EXPECT_THAT(machine.state.reason, HasSubstr("unhealthy: HTTP 503"));
}

TEST(Machine, UnhealthyIsLeftAloneWhereThePolicyNeverRestarts) {
  MachineHarness machine;
  machine.config.restart.mode = RestartMode::kNever;
  machine.RunUntilReady().Send(CheckFailed{"HTTP 503"});
  EXPECT_EQ(machine.state.phase, Phase::kRunning);
}

TEST(Machine, ABlockedStartAnswersAndComesUpByItself) {
  MachineHarness machine;
  machine.Start().Send(GateBlocked{"dependency db has failed"});
  EXPECT_EQ(StateOf(machine.state.phase), ServiceState::kStopped);
  EXPECT_EQ(machine.state.reason, "dependency db has failed");
  ASSERT_EQ(machine.Of<AttemptEnded>().size(), 1u);
  machine.Send(GateOpened{});
  EXPECT_EQ(machine.state.phase, Phase::kSpawning);
}

TEST(Machine, AnAdoptedProcessGoesOn) {
  MachineHarness machine;
  machine.Send(Adopted{.pid = 42, .ready = true, .attempts = 1, .restart_count = 4, .watchdog = {}});
  EXPECT_EQ(machine.state.phase, Phase::kRunning);
  EXPECT_EQ(machine.state.restart_count, 4);
  EXPECT_THAT(machine.Recorded(), ElementsAre("adopted"));
  machine.Exit(WaitStatus::Exited(9));
  EXPECT_EQ(machine.state.phase, Phase::kBackoff);
  EXPECT_EQ(machine.state.attempts, 2);
}

TEST(Machine, WhatHadComeToRestStaysAtRest) {
  MachineHarness machine;
  machine.Send(FoundAtRest{.phase = Phase::kExited, .restart_count = 2, .reason = "exited with code 0"});
  EXPECT_EQ(StateOf(machine.state.phase), ServiceState::kExited);
  EXPECT_EQ(machine.state.restart_count, 2);
  EXPECT_TRUE(machine.actions.empty());
  machine.Start().Send(GateOpened{});
  EXPECT_EQ(machine.state.phase, Phase::kSpawning);
}

TEST(Machine, ABackoffGoesOnWhereTheLastDaemonLeftIt) {
  MachineHarness machine;
  machine.Send(FoundAtRest{.phase = Phase::kBackoff,
                           .attempts = 2,
                           .restart_count = 5,
                           .last_exit = WaitStatus::Exited(7),
                           .failure = "exited with code 7",
                           .reason = "exited with code 7; restart 2 of 3",
                           .wait = absl::Seconds(3)});
  EXPECT_EQ(machine.state.phase, Phase::kBackoff);
  EXPECT_EQ(machine.state.reason, "exited with code 7; restart 2 of 3");
  EXPECT_TRUE(machine.actions.empty()) << "it was told by the last daemon";
  EXPECT_EQ(NextDeadline(machine.state), machine.now + absl::Seconds(3));
  machine.now += absl::Seconds(3);
  machine.Send(DeadlineReached{});
  EXPECT_EQ(machine.state.phase, Phase::kWaiting);
  EXPECT_EQ(machine.state.restart_count, 6);
  EXPECT_EQ(machine.state.attempts, 2);
}

TEST(Machine, WhyItWasStoppedIsKnownToTheNextDaemon) {
  MachineHarness machine;
  machine.Send(FoundAtRest{.last_exit = WaitStatus::Signaled(SIGTERM), .reason = "stopped by uid 0: maintenance"});
  EXPECT_EQ(machine.state.phase, Phase::kStopped);
  EXPECT_FALSE(machine.state.desired_up);
  EXPECT_EQ(machine.state.reason, "stopped by uid 0: maintenance");
}

TEST(Machine, AnEndThatNoDaemonSawIsToldWithoutAnAdoption) {
  MachineHarness machine;
  machine.Send(Adopted{.pid = 42, .attempts = 1, .is_alive = false});
  machine.Send(StopRequested{{.actor = "supervisor", .reason = {}}, false});
  machine.Exit(WaitStatus::Exited(3));
  EXPECT_EQ(machine.state.phase, Phase::kStopped);
  EXPECT_THAT(machine.Recorded(), ElementsAre("stopped"));
}

TEST(Machine, ReadinessByUptimeCountsWhatWasUpBeforeTheAdoption) {
  MachineHarness machine;
  machine.config.readiness = {.type = ReadinessType::kUptime, .uptime = absl::Seconds(10), .timeout = absl::Minutes(1)};
  machine.Send(Adopted{.pid = 42, .ready = false, .up_for = absl::Seconds(7)});
  EXPECT_EQ(NextDeadline(machine.state), machine.now + absl::Seconds(3));
}

TEST(Machine, ARestartDuringAStartGivesTheOldAttemptItsOutcome) {
  MachineHarness machine;
  machine.config.readiness.type = ReadinessType::kNotify;
  machine.RunUntilReady().Restart();
  ASSERT_EQ(machine.Of<AttemptEnded>().size(), 1u);
  EXPECT_TRUE(machine.state.attempt_open) << "and the new one is open";
  machine.Exit(WaitStatus::Signaled(SIGTERM)).Send(GateOpened{}).Send(ExecSucceeded{43, {}}).Send(BecameReady{});
  ASSERT_EQ(machine.Of<AttemptEnded>().size(), 1u);
  EXPECT_TRUE(machine.Of<AttemptEnded>().front().success);
}

// ------------------------------------------------------------------------------------------------ sd_notify(3)

MachineHarness Notifying() {
  MachineHarness machine;
  machine.config.readiness.type = ReadinessType::kNotify;
  machine.config.readiness.timeout = absl::Seconds(60);
  return machine;
}

TEST(Notify, ReadyIsWhatItSays) {
  MachineHarness machine = Notifying();
  machine.RunUntilReady();
  EXPECT_EQ(machine.state.phase, Phase::kBecomingReady);
  machine.Send(Notified{.ready = true, .watchdog = {}, .extend = {}});
  EXPECT_EQ(machine.state.phase, Phase::kRunning);
  EXPECT_THAT(machine.Recorded(), ElementsAre("ready"));
}

TEST(Notify, ReadyCountsOnlyWhereReadinessIsByNotification) {
  MachineHarness machine;
  machine.config.readiness.type = ReadinessType::kHealthCheck;
  machine.RunUntilReady().Send(Notified{.ready = true, .watchdog = {}, .extend = {}});
  EXPECT_EQ(machine.state.phase, Phase::kBecomingReady);
}

TEST(Notify, AServiceThatGoesOnExtendingItsStartIsGivenTheTime) {
  MachineHarness machine = Notifying();
  machine.RunUntilReady();
  const MonoTime begin = machine.now;
  machine.Send(Notified{.watchdog = {}, .extend = absl::Seconds(10)});
  EXPECT_EQ(machine.state.deadline, begin + absl::Seconds(60)) << "never earlier than it was";
  machine.now = begin + absl::Seconds(55);
  machine.Send(Notified{.watchdog = {}, .extend = absl::Seconds(10)});
  EXPECT_EQ(machine.state.deadline, begin + absl::Seconds(65));
  machine.Elapse();
  EXPECT_EQ(machine.state.phase, Phase::kTerminating);
}

TEST(Notify, AStopCanBeExtendedButNotOnceItIsKilled) {
  MachineHarness machine = Notifying();
  machine.RunUntilReady().Send(Notified{.ready = true, .watchdog = {}, .extend = {}}).Stop();
  ASSERT_EQ(machine.state.phase, Phase::kTerminating);
  machine.Send(Notified{.watchdog = {}, .extend = absl::Seconds(100)});
  EXPECT_EQ(machine.state.deadline, machine.now + absl::Seconds(100));
  machine.Elapse();
  ASSERT_EQ(machine.state.phase, Phase::kKilling);
  const MonoTime deadline = machine.state.deadline;
  machine.Send(Notified{.watchdog = {}, .extend = absl::Seconds(100)});
  EXPECT_EQ(machine.state.deadline, deadline);
}

TEST(Notify, TheWatchdogIsArmedWhenItIsReadyAndByEachSignOfLife) {
  MachineHarness machine = Notifying();
  machine.Start().Send(GateOpened{}).Send(ExecSucceeded{42, absl::Seconds(5)});
  EXPECT_EQ(machine.state.watchdog_deadline, kNoDeadline) << "a start may take longer";
  machine.Send(Notified{.ready = true, .watchdog = {}, .extend = {}});
  EXPECT_EQ(NextDeadline(machine.state), machine.now + absl::Seconds(5));
  machine.now += absl::Seconds(4);
  machine.Send(Notified{.alive = true, .watchdog = {}, .extend = {}});
  EXPECT_EQ(NextDeadline(machine.state), machine.now + absl::Seconds(5));
  machine.now = NextDeadline(machine.state);
  machine.Send(DeadlineReached{});
  EXPECT_EQ(machine.state.phase, Phase::kTerminating);
  EXPECT_THAT(machine.Recorded(), ElementsAre("unhealthy", "restarting"));
  ASSERT_EQ(machine.Of<TerminateTree>().size(), 1u);
  EXPECT_TRUE(machine.Of<TerminateTree>().front().hung);
  machine.Exit(WaitStatus::Signaled(SIGABRT));
  EXPECT_EQ(machine.state.phase, Phase::kBackoff);
  EXPECT_THAT(machine.state.reason, HasSubstr("watchdog: no WATCHDOG=1 for 5.0 s"));
}

TEST(Notify, TheWatchdogIsSetAndSwitchedOffByTheServiceItself) {
  MachineHarness machine = Notifying();
  machine.RunUntilReady().Send(Notified{.ready = true, .watchdog = absl::Seconds(3), .extend = {}});
  EXPECT_EQ(machine.state.watchdog_deadline, machine.now + absl::Seconds(3));
  machine.Send(Notified{.watchdog = absl::ZeroDuration(), .extend = {}});
  EXPECT_EQ(machine.state.watchdog_deadline, kNoDeadline);
}

TEST(Notify, TheWatchdogSleepsWhileItIsNotRunning) {
  MachineHarness machine = Notifying();
  machine.Start().Send(GateOpened{}).Send(ExecSucceeded{42, absl::Seconds(5)});
  machine.Send(Notified{.ready = true, .watchdog = {}, .extend = {}}).Stop();
  EXPECT_EQ(machine.state.watchdog_deadline, kNoDeadline);
}

TEST(Notify, AHungServiceThatThePolicyNeverRestartsIsReportedOnce) {
  MachineHarness machine = Notifying();
  machine.config.restart.mode = RestartMode::kNever;
  machine.Start().Send(GateOpened{}).Send(ExecSucceeded{42, absl::Seconds(5)});
  machine.Send(Notified{.ready = true, .watchdog = {}, .extend = {}});
  machine.now = NextDeadline(machine.state);
  machine.Send(DeadlineReached{});
  EXPECT_EQ(machine.state.phase, Phase::kRunning);
  EXPECT_THAT(machine.Recorded(), ElementsAre("unhealthy"));
  EXPECT_EQ(NextDeadline(machine.state), kNoDeadline);
  machine.Send(Notified{.alive = true, .watchdog = {}, .extend = {}});
  EXPECT_NE(NextDeadline(machine.state), kNoDeadline) << "armed again by a sign of life";
}

TEST(Notify, StoppingHoldsItToTheDeadlineOfAStop) {
  MachineHarness machine = Notifying();
  machine.RunUntilReady().Send(Notified{.ready = true, .watchdog = {}, .extend = {}});
  machine.Send(Notified{.stopping = true, .watchdog = {}, .extend = {}});
  EXPECT_EQ(StateOf(machine.state.phase), ServiceState::kStopping);
  EXPECT_FALSE(machine.Did<TerminateTree>()) << "it goes by itself";
  machine.Elapse();
  EXPECT_TRUE(machine.Did<KillTree>());
  machine.Exit(WaitStatus::Signaled(SIGKILL));
  EXPECT_EQ(machine.state.phase, Phase::kBackoff);
}

TEST(Notify, AStopOfAServiceThatIsLeavingAsksItAllTheSame) {
  MachineHarness machine = Notifying();
  machine.RunUntilReady().Send(Notified{.ready = true, .watchdog = {}, .extend = {}});
  machine.Send(Notified{.stopping = true, .watchdog = {}, .extend = {}}).Stop();
  EXPECT_TRUE(machine.Did<TerminateTree>());
  machine.Stop();
  EXPECT_FALSE(machine.Did<TerminateTree>()) << "once";
  machine.Exit(WaitStatus::Exited(0));
  EXPECT_EQ(machine.state.phase, Phase::kStopped);
}

TEST(Notify, ReloadingIsShownUntilItIsReadyAgain) {
  MachineHarness machine = Notifying();
  machine.RunUntilReady().Send(Notified{.ready = true, .watchdog = {}, .extend = {}});
  machine.Send(Notified{.reloading = true, .watchdog = {}, .extend = {}});
  EXPECT_EQ(machine.state.phase, Phase::kRunning);
  EXPECT_THAT(machine.state.reason, HasSubstr("RELOADING=1"));
  machine.Send(Notified{.ready = true, .watchdog = {}, .extend = {}});
  EXPECT_EQ(machine.state.reason, "");
  EXPECT_TRUE(machine.Recorded().empty()) << "it was ready all the time";
}

// --------------------------------------------------------------------------------------------------- many at once

TEST(Machine, ARestartStormOfAllServicesIsHeldBackAndSaysSo) {
  MachineHarness machine;
  machine.config.restart.delay = absl::ZeroDuration();
  machine.config.restart.max_attempts = 0;
  machine.RunUntilReady();
  // What thousands of other restarts have taken from the budget that all share.
  machine.state.storm_allowance = machine.now + absl::Minutes(1);
  machine.Exit(WaitStatus::Exited(1));
  EXPECT_EQ(machine.state.phase, Phase::kBackoff);
  EXPECT_GT(machine.state.deadline, machine.now);
  EXPECT_THAT(machine.Of<RecordEvent>().back().message, HasSubstr("held back"));
  EXPECT_GT(machine.state.storm_allowance, machine.now + absl::Minutes(1)) << "and it has taken its own";
}

TEST(Machine, ADeferredStopOfOneThatIsStartingWaitsForItsTurnToo) {
  MachineHarness machine;
  machine.config.readiness.type = ReadinessType::kNotify;
  machine.RunUntilReady().Stop(true);
  ASSERT_EQ(machine.Of<AttemptEnded>().size(), 1u) << "who waits for the start is told";
  EXPECT_EQ(machine.state.phase, Phase::kBecomingReady);
  machine.Send(Notified{.ready = true, .watchdog = {}, .extend = {}});
  EXPECT_EQ(machine.state.phase, Phase::kRunning);
  machine.Send(StopTurnCame{});
  EXPECT_EQ(machine.state.phase, Phase::kTerminating);
}

TEST(Machine, AStartTakesADeferredStopBackWhileItIsStarting) {
  MachineHarness machine;
  machine.config.readiness.type = ReadinessType::kNotify;
  machine.RunUntilReady().Stop(true).Start();
  EXPECT_TRUE(machine.state.desired_up);
  machine.Send(Notified{.ready = true, .watchdog = {}, .extend = {}});
  ASSERT_EQ(machine.Of<AttemptEnded>().size(), 1u);
  EXPECT_TRUE(machine.Of<AttemptEnded>().front().success);
}

TEST(Machine, AttemptsAreNotForgottenWhileItIsUnhealthy) {
  MachineHarness machine;
  machine.RunUntilReady().Exit(WaitStatus::Exited(1)).Elapse().Send(GateOpened{}).Send(ExecSucceeded{43, {}});
  ASSERT_EQ(machine.state.attempts, 1);
  machine.config.is_unhealthy = true;
  machine.Elapse();
  EXPECT_EQ(machine.state.attempts, 1);
  machine.config.is_unhealthy = false;
  machine.Elapse();
  EXPECT_EQ(machine.state.attempts, 0);
}

TEST(Machine, AStopTimeoutOfZeroIsNoLimit) {
  MachineHarness machine;
  machine.config.stop_timeout = absl::ZeroDuration();
  machine.RunUntilReady().Stop();
  EXPECT_EQ(machine.state.phase, Phase::kTerminating);
  EXPECT_EQ(machine.state.deadline, kNoDeadline);
}

}  // namespace
}  // namespace supervisor
