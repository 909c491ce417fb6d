#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "daemon/service/machine.h"
#include "tests/daemon/service/machine_harness.h"

// What the restart policy makes of clean exits, and of a reload that changes it.

namespace supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// --------------------------------------------------------------------------------------------------- clean exits

// One run after the other: up for `up`, then the exit code.
MachineHarness& Recycle(MachineHarness& machine, absl::Duration up, int code) {
  machine.now += up;
  machine.Exit(WaitStatus::Exited(code));
  if (machine.state.phase == Phase::kBackoff) {
    machine.Elapse().Send(GateOpened{}).Send(ExecSucceeded{42, {}});
  }
  return machine;
}

TEST(Machine, CleanExitsUnderAlwaysAreRestartedForEver) {
  MachineHarness machine;
  machine.config.restart.max_attempts = 3;
  machine.RunUntilReady();
  for (int i = 1; i <= 50; ++i) {
    ASSERT_EQ(Recycle(machine, absl::Seconds(30), 0).state.phase, Phase::kRunning) << i;
    EXPECT_EQ(machine.state.attempts, 0);
    EXPECT_EQ(machine.state.restart_count, i);
  }
}

TEST(Machine, ACleanExitIsRestartedAfterThePlainDelayAndSaysSo) {
  MachineHarness machine;
  machine.RunUntilReady();
  for (int i = 0; i < 3; ++i) {
    machine.Exit(WaitStatus::Exited(0));
    ASSERT_EQ(machine.state.phase, Phase::kBackoff);
    EXPECT_EQ(machine.state.deadline, machine.now + absl::Seconds(5)) << "no back-off: it has not failed";
    const RecordEvent told = machine.Of<RecordEvent>().back();
    EXPECT_EQ(told.message, "restart in 5.0 s: exited with code 0");
    EXPECT_EQ(told.attempt, 0);
    machine.Elapse().Send(GateOpened{}).Send(ExecSucceeded{42, {}});
  }
}

TEST(Machine, AnotherCodeThatCountsAsSuccessIsACleanExitToo) {
  MachineHarness machine;
  machine.config.restart.max_attempts = 1;
  machine.config.restart.success_exit_codes = {0, 64};
  machine.RunUntilReady();
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(Recycle(machine, absl::Seconds(1), 64).state.phase, Phase::kRunning);
  }
  Recycle(machine, absl::Seconds(1), 1);
  EXPECT_EQ(Recycle(machine, absl::Seconds(1), 1).state.phase, Phase::kFailed);
}

TEST(Machine, CleanExitsBetweenFailuresDoNotHideThem) {
  MachineHarness machine;
  machine.config.restart.max_attempts = 2;
  machine.RunUntilReady();
  for (const int code : {1, 0, 0, 1, 0}) {
    ASSERT_EQ(Recycle(machine, absl::Seconds(1), code).state.phase, Phase::kRunning);
  }
  EXPECT_EQ(machine.state.attempts, 2);
  EXPECT_EQ(Recycle(machine, absl::Seconds(1), 1).state.phase, Phase::kFailed);
}

TEST(Machine, AWorkerThatRecyclesItselfProvesItselfToo) {
  MachineHarness machine;
  machine.config.restart.max_attempts = 1;
  machine.config.restart.reset_after = absl::Seconds(60);
  machine.RunUntilReady();
  Recycle(machine, absl::Seconds(10), 1);
  ASSERT_EQ(machine.state.attempts, 1);
  Recycle(machine, absl::Seconds(40), 0);  // with the pause of 5 s
  EXPECT_EQ(machine.state.attempts, 1);
  EXPECT_EQ(machine.state.deadline, machine.now + absl::Seconds(15));
  machine.Elapse();
  EXPECT_EQ(machine.state.attempts, 0);
  EXPECT_EQ(Recycle(machine, absl::Seconds(1), 1).state.phase, Phase::kRunning);
}

TEST(Machine, ACleanExitBeforeItWasReadyIsAFailure) {
  MachineHarness machine;
  machine.config.restart.max_attempts = 1;
  machine.config.readiness.type = ReadinessType::kNotify;
  machine.RunUntilReady().Exit(WaitStatus::Exited(0));
  ASSERT_EQ(machine.state.phase, Phase::kBackoff);
  machine.Elapse().Send(GateOpened{}).Send(ExecSucceeded{42, {}}).Exit(WaitStatus::Exited(0));
  EXPECT_EQ(machine.state.phase, Phase::kFailed);
}

TEST(Machine, CleanExitsWithoutDelayMeetTheFloorAgainstSpinning) {
  MachineHarness machine;
  machine.config.restart.delay = absl::ZeroDuration();
  machine.RunUntilReady();
  const MonoTime begin = machine.now;
  for (int i = 0; i < 120; ++i) {
    machine.Exit(WaitStatus::Exited(0));
    if (machine.state.phase == Phase::kBackoff) {
      machine.Elapse();
    }
    machine.Send(GateOpened{}).Send(ExecSucceeded{42, {}});
  }
  EXPECT_GE(machine.now - begin, absl::Milliseconds(990)) << "20 at once, then one every 10 ms";
}

TEST(Machine, AProgramThatGoesIntoTheBackgroundIsToldSoAndGivenUp) {
  MachineHarness machine;
  machine.config.restart.max_attempts = 1;
  machine.RunUntilReady();
  for (int i = 0; i < 2; ++i) {
    machine.now += absl::Seconds(1);
    machine.Exit(WaitStatus::Exited(0), false);
    ASSERT_EQ(machine.state.phase, Phase::kTerminating);
    EXPECT_THAT(machine.Of<RecordEvent>().front().message, HasSubstr("it seems to go into the background"));
    machine.Send(TreeEmptied{});
    if (machine.state.phase == Phase::kBackoff) {
      machine.Elapse().Send(GateOpened{}).Send(ExecSucceeded{42, {}});
    }
  }
  EXPECT_EQ(machine.state.phase, Phase::kFailed);
  EXPECT_THAT(machine.state.reason, HasSubstr("set readiness to notify and have it send MAINPID="));
}

TEST(Machine, AOneOffThatLeavesProcessesHasStillEndedWell) {
  MachineHarness machine;
  machine.config.restart.mode = RestartMode::kOnFailure;
  machine.RunUntilReady().Exit(WaitStatus::Exited(0), false).Send(TreeEmptied{});
  EXPECT_EQ(machine.state.phase, Phase::kExited);
  EXPECT_THAT(machine.state.reason, HasSubstr("it left processes behind"));
}

TEST(Machine, ACrashAndALateEndThatLeaveProcessesAreNotTakenForIt) {
  MachineHarness crash;
  crash.RunUntilReady().Exit(WaitStatus::Signaled(SIGSEGV), false);
  EXPECT_THAT(crash.state.reason, Not(HasSubstr("background")));
  MachineHarness late;
  late.RunUntilReady();
  late.now += absl::Seconds(30);
  late.Exit(WaitStatus::Exited(0), false).Send(TreeEmptied{});
  EXPECT_EQ(late.state.phase, Phase::kBackoff);
  EXPECT_EQ(late.state.attempts, 0);
  EXPECT_THAT(late.state.reason, Not(HasSubstr("background")));
}

// -------------------------------------------------------------------------------------- a reload changes the settings

constexpr SettingsChanged kAllChanged{.restart_policy = true, .readiness = true, .stop_timeout = true};

TEST(MachineReload, AShorterDelayShortensABackoffUnderWay) {
  MachineHarness machine;
  machine.config.restart.delay = absl::Seconds(300);
  machine.RunUntilReady().Exit(WaitStatus::Exited(1));
  ASSERT_EQ(machine.state.phase, Phase::kBackoff);
  const MonoTime begin = machine.now;
  machine.now += absl::Seconds(10);
  machine.config.restart.delay = absl::Seconds(30);
  machine.Send(kAllChanged);
  EXPECT_EQ(machine.state.deadline, begin + absl::Seconds(30)) << "counted from its begin";
  machine.config.restart.delay = absl::Seconds(1);
  machine.Send(kAllChanged);
  EXPECT_LE(machine.state.deadline, machine.now) << "over: it starts at once";
  machine.Send(DeadlineReached{});
  EXPECT_EQ(machine.state.phase, Phase::kWaiting);
  EXPECT_EQ(machine.state.attempts, 1);
}

TEST(MachineReload, ALongerDelayMultiplierOrBoundHoldsToo) {
  MachineHarness machine;
  machine.RunUntilReady();
  Recycle(machine, absl::Seconds(1), 1).Exit(WaitStatus::Exited(1));  // the second failure in a row: 5 s * 2
  const MonoTime begin = machine.now;
  ASSERT_EQ(machine.state.deadline, begin + absl::Seconds(10));
  machine.config.restart.backoff_multiplier = 4;
  EXPECT_EQ(machine.Send(kAllChanged).state.deadline, begin + absl::Seconds(20));
  machine.config.restart.max_delay = absl::Seconds(7);
  EXPECT_EQ(machine.Send(kAllChanged).state.deadline, begin + absl::Seconds(7));
}

TEST(MachineReload, TheFloorAgainstSpinningHoldsForAShortenedBackoffToo) {
  MachineHarness machine;
  machine.config.restart.max_attempts = 0;
  machine.config.restart.delay = absl::ZeroDuration();
  machine.RunUntilReady();
  for (int i = 0; i < 25; ++i) {
    machine.Exit(WaitStatus::Exited(1));
    if (machine.state.phase == Phase::kBackoff) {
      machine.Elapse();
    }
    machine.Send(GateOpened{}).Send(ExecSucceeded{42, {}});
  }
  machine.config.restart.delay = absl::Seconds(30);
  machine.Exit(WaitStatus::Exited(1));
  machine.config.restart.delay = absl::ZeroDuration();
  EXPECT_GT(machine.Send(kAllChanged).state.deadline, machine.now);
}

TEST(MachineReload, APolicyThatRestartsNoMoreEndsTheBackoff) {
  MachineHarness machine;
  machine.RunUntilReady().Exit(WaitStatus::Exited(1));
  machine.config.restart.mode = RestartMode::kNever;
  machine.Send(kAllChanged);
  EXPECT_EQ(machine.state.phase, Phase::kFailed);
  EXPECT_THAT(machine.Recorded(), ElementsAre("failed"));
  EXPECT_THAT(machine.state.reason, HasSubstr("restart_policy.mode is never"));

  MachineHarness clean;
  clean.RunUntilReady().Exit(WaitStatus::Exited(0));
  clean.config.restart.mode = RestartMode::kOnFailure;
  EXPECT_EQ(clean.Send(kAllChanged).state.phase, Phase::kExited);
}

TEST(MachineReload, FewerAttemptsThanWereMadeGiveUp) {
  MachineHarness machine;
  machine.config.restart.max_attempts = 5;
  machine.RunUntilReady();
  Recycle(machine, absl::Seconds(1), 1).Exit(WaitStatus::Exited(1));
  ASSERT_EQ(machine.state.attempts, 2);
  machine.config.restart.max_attempts = 2;
  EXPECT_EQ(machine.Send(kAllChanged).state.phase, Phase::kBackoff) << "it is the second of two";
  machine.config.restart.max_attempts = 1;
  EXPECT_EQ(machine.Send(kAllChanged).state.phase, Phase::kFailed);
}

TEST(MachineReload, ReadinessAndStopTimeoutsHoldForWhatIsUnderWay) {
  MachineHarness machine;
  machine.config.readiness = {.type = ReadinessType::kNotify, .timeout = absl::Seconds(60)};
  machine.RunUntilReady();
  const MonoTime begin = machine.now;
  machine.now += absl::Seconds(5);
  machine.config.readiness.timeout = absl::Seconds(20);
  EXPECT_EQ(machine.Send(kAllChanged).state.deadline, begin + absl::Seconds(20));
  machine.config.readiness.timeout = absl::ZeroDuration();
  EXPECT_EQ(machine.Send(kAllChanged).state.deadline, kNoDeadline);
  machine.config.readiness = {.type = ReadinessType::kUptime, .uptime = absl::Seconds(9)};
  EXPECT_EQ(machine.Send(kAllChanged).state.deadline, begin + absl::Seconds(9));
  machine.Elapse();
  EXPECT_EQ(machine.state.phase, Phase::kRunning);
  machine.Stop();
  const MonoTime asked = machine.now;
  machine.config.stop_timeout = absl::Seconds(2);
  EXPECT_EQ(machine.Send(kAllChanged).state.deadline, asked + absl::Seconds(2));
}

TEST(MachineReload, AnotherTimeUntilItHasProvedItselfCountsFromItsBegin) {
  MachineHarness machine;
  machine.RunUntilReady();
  Recycle(machine, absl::Seconds(1), 1);
  const MonoTime begin = machine.now;
  machine.now += absl::Seconds(10);
  machine.config.restart.reset_after = absl::Seconds(15);
  EXPECT_EQ(machine.Send(kAllChanged).state.deadline, begin + absl::Seconds(15));
}

}  // namespace
}  // namespace supervisor
