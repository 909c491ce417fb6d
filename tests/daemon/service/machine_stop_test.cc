// How the machine stops what does not just go: in its turn, by a command, and what cannot be stopped at all.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <string>

#include "tests/daemon/service/machine_harness.h"

namespace supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const Cause kTester{.actor = "tester", .reason = {}};

MachineHarness Pending() {
  MachineHarness machine;
  machine.RunUntilReady().Send(RestartRequested{kTester, true});
  return machine;
}

// ------------------------------------------------------------------------------------------- restarts in their turn

TEST(RestartTurn, ADeferredRestartRunsOnUntilItsTurnComes) {
  MachineHarness machine = Pending();
  EXPECT_EQ(machine.state.phase, Phase::kRunning);
  EXPECT_TRUE(AwaitsItsTurnToStop(machine.state));
  EXPECT_TRUE(IsGoingDown(machine.state));
  EXPECT_TRUE(ComesBack(machine.state));
  EXPECT_THAT(machine.Recorded(), ElementsAre("restarting"));
  machine.Send(StopTurnCame{});
  EXPECT_EQ(machine.state.phase, Phase::kTerminating);
  EXPECT_TRUE(machine.Did<TerminateTree>());
  EXPECT_FALSE(AwaitsItsTurnToStop(machine.state));
  machine.Exit(WaitStatus::Signaled(SIGTERM));
  EXPECT_EQ(machine.state.phase, Phase::kWaiting);
  EXPECT_FALSE(IsGoingDown(machine.state));
  machine.Send(GateOpened{}).Send(ExecSucceeded{43, {}});
  ASSERT_EQ(machine.Of<AttemptEnded>().size(), 1u) << "the caller is answered when it is up again";
  EXPECT_TRUE(machine.Of<AttemptEnded>().front().success);
}

TEST(RestartTurn, TheTurnMeansNothingToWhatDoesNotWaitForIt) {
  MachineHarness machine;
  machine.RunUntilReady().Send(StopTurnCame{});
  EXPECT_EQ(machine.state.phase, Phase::kRunning);
  EXPECT_THAT(machine.actions, IsEmpty());
}

TEST(RestartTurn, BecomingReadyMeanwhileIsNotTheOutcomeOfTheRestart) {
  MachineHarness machine;
  machine.config.readiness.type = ReadinessType::kNotify;
  machine.RunUntilReady().Send(RestartRequested{kTester, true});
  ASSERT_EQ(machine.Of<AttemptEnded>().size(), 1u) << "of the start before";
  machine.Send(BecameReady{});
  EXPECT_EQ(machine.state.phase, Phase::kRunning);
  EXPECT_FALSE(machine.Did<AttemptEnded>());
  EXPECT_TRUE(machine.state.attempt_open);
}

TEST(RestartTurn, ItRunsOnWhereWhatItDependsOnCannotBeStarted) {
  MachineHarness machine = Pending();
  machine.Send(GateBlocked{"dependency db has failed"});
  EXPECT_EQ(machine.state.phase, Phase::kRunning);
  EXPECT_FALSE(AwaitsItsTurnToStop(machine.state));
  EXPECT_FALSE(IsGoingDown(machine.state));
  EXPECT_TRUE(machine.state.desired_up);
  EXPECT_EQ(machine.state.reason, "");
  ASSERT_EQ(machine.Of<AttemptEnded>().size(), 1u);
  EXPECT_FALSE(machine.Of<AttemptEnded>().front().success);
  EXPECT_EQ(machine.Of<AttemptEnded>().front().message, "dependency db has failed; it was not restarted, and runs on");
  EXPECT_THAT(machine.Recorded(), ElementsAre("restarting"));
  machine.Send(GateBlocked{"dependency db has failed"});
  EXPECT_THAT(machine.actions, IsEmpty()) << "nothing is pending any more";
}

TEST(RestartTurn, AnExitMeanwhileIsToldAndStartsItAnew) {
  MachineHarness machine = Pending();
  machine.Exit(WaitStatus::Exited(1));
  EXPECT_EQ(machine.state.phase, Phase::kWaiting) << "no delay of the policy";
  EXPECT_THAT(machine.Recorded(), ElementsAre("exited"));
  EXPECT_FALSE(machine.Did<AttemptEnded>());
  EXPECT_TRUE(machine.state.attempt_open);
  EXPECT_EQ(machine.state.attempts, 0);
}

TEST(RestartTurn, AStopMeanwhileWins) {
  MachineHarness machine = Pending();
  machine.Stop(true);
  ASSERT_EQ(machine.Of<AttemptEnded>().size(), 1u);
  EXPECT_FALSE(machine.Of<AttemptEnded>().front().success);
  EXPECT_TRUE(IsGoingDown(machine.state));
  EXPECT_FALSE(ComesBack(machine.state));
  machine.Start();
  EXPECT_FALSE(IsGoingDown(machine.state)) << "taken back, and the restart with it";
}

TEST(RestartTurn, AnUnhealthyOneGoesAtOnceAndComesBackAllTheSame) {
  MachineHarness machine = Pending();
  machine.Send(CheckFailed{"HTTP 503"}).Exit(WaitStatus::Exited(0));
  EXPECT_EQ(machine.state.phase, Phase::kWaiting);
  EXPECT_TRUE(machine.state.attempt_open);
}

TEST(RestartTurn, WhatIsAtRestStartsAtOnce) {
  MachineHarness machine;
  machine.Send(RestartRequested{kTester, true});
  EXPECT_EQ(machine.state.phase, Phase::kWaiting);
}

// --------------------------------------------------------------------------------------------------- stop commands

MachineHarness Commanded() {
  MachineHarness machine;
  machine.config.has_stop_command = true;
  machine.config.stop_timeout = absl::Seconds(10);
  machine.RunUntilReady().Stop();
  return machine;
}

TEST(StopCommand, HasHalfOfTheGracefulTimeInTheSignalsPlace) {
  MachineHarness machine = Commanded();
  EXPECT_EQ(machine.state.phase, Phase::kTerminating);
  ASSERT_EQ(machine.Of<RunStopCommand>().size(), 1u);
  EXPECT_EQ(machine.Of<RunStopCommand>().front().limit, absl::Seconds(5));
  EXPECT_FALSE(machine.Did<TerminateTree>());
  EXPECT_EQ(NextDeadline(machine.state), machine.now + absl::Seconds(5));
}

TEST(StopCommand, ThatFailsIsFollowedByTheSignalAtOnceAndSaysSo) {
  MachineHarness machine = Commanded();
  machine.Send(StopCommandEnded{false, "command /no/such: No such file or directory (ENOENT)"});
  EXPECT_TRUE(machine.Did<TerminateTree>());
  EXPECT_EQ(machine.state.phase, Phase::kTerminating);
  ASSERT_THAT(machine.Recorded(), ElementsAre("failed"));
  const std::string message = machine.Of<RecordEvent>().front().message;
  EXPECT_THAT(message, HasSubstr("/no/such"));
  EXPECT_THAT(message, HasSubstr("SIGTERM"));
  EXPECT_EQ(machine.state.stop_note, message) << "which is the stop's answer, too";
  EXPECT_EQ(NextDeadline(machine.state), machine.now + absl::Seconds(10)) << "SIGKILL at the deadline, not before";
  machine.Send(StopCommandEnded{false, "again"});
  EXPECT_THAT(machine.actions, IsEmpty()) << "once";
}

TEST(StopCommand, ThatEndsWellHasItsTimeToTakeEffectAndIsThenFollowedByTheSignal) {
  MachineHarness machine = Commanded();
  machine.Send(StopCommandEnded{true, "exited with code 0"});
  EXPECT_THAT(machine.actions, IsEmpty());
  machine.now = NextDeadline(machine.state);
  machine.Send(DeadlineReached{});
  EXPECT_TRUE(machine.Did<TerminateTree>());
  EXPECT_FALSE(machine.Did<KillTree>());
  EXPECT_THAT(machine.Recorded(), ElementsAre("failed"));
}

TEST(StopCommand, ThatNeverAnswersIsFollowedByTheSignalToo) {
  MachineHarness machine = Commanded();
  machine.now = NextDeadline(machine.state);
  machine.Send(DeadlineReached{});
  EXPECT_TRUE(machine.Did<TerminateTree>());
  machine.Elapse();
  EXPECT_EQ(machine.state.phase, Phase::kKilling);
  EXPECT_THAT(machine.state.stop_note, HasSubstr("SIGTERM was sent in its place; it did not stop within 10 s"));
}

TEST(StopCommand, HasALimitWhereTheStopHasNone) {
  MachineHarness machine;
  machine.config.has_stop_command = true;
  machine.config.stop_timeout = absl::ZeroDuration();
  machine.RunUntilReady().Stop();
  EXPECT_EQ(NextDeadline(machine.state), machine.now + absl::Seconds(30));
  machine.now = NextDeadline(machine.state);
  machine.Send(DeadlineReached{});
  EXPECT_TRUE(machine.Did<TerminateTree>());
  EXPECT_EQ(NextDeadline(machine.state), kNoDeadline) << "and it is not killed";
}

TEST(StopCommand, FailureAfterTheEndOfTheMainProcessIsNoNews) {
  MachineHarness machine = Commanded();
  machine.Exit(WaitStatus::Exited(0), false).Send(StopCommandEnded{false, "exited with code 1"});
  EXPECT_THAT(machine.actions, IsEmpty());
}

TEST(StopCommand, IsNotForWhatHangsOrIsNotYetItsProgram) {
  MachineHarness machine;
  machine.config.has_stop_command = true;
  machine.Start().Send(GateOpened{}).Stop();
  EXPECT_TRUE(machine.Did<TerminateTree>());
  EXPECT_FALSE(machine.Did<RunStopCommand>());
  MachineHarness hung;
  hung.config.has_stop_command = true;
  hung.RunUntilReady().Send(Notified{.hung = true, .watchdog = {}, .extend = {}});
  ASSERT_TRUE(hung.Did<TerminateTree>());
  EXPECT_TRUE(hung.Of<TerminateTree>().front().hung);
}

TEST(StopCommand, MoreTimeThatTheServiceAsksForIsTheCommandsToo) {
  MachineHarness machine = Commanded();
  machine.Send(Notified{.watchdog = {}, .extend = absl::Seconds(60)});
  EXPECT_EQ(NextDeadline(machine.state), machine.now + absl::Seconds(60));
}

TEST(StopCommand, ItsNoteIsGoneWithTheNextRun) {
  MachineHarness machine = Commanded();
  machine.Send(StopCommandEnded{false, "exited with code 1"}).Exit(WaitStatus::Exited(0));
  EXPECT_THAT(machine.state.stop_note, HasSubstr("exited with code 1"));
  machine.Start();
  EXPECT_THAT(machine.state.stop_note, IsEmpty());
}

// ------------------------------------------------------------------------------------------- what cannot be stopped

const char kWhose[] = "SIGKILL to pid 7 (sudo) of uid 0 (root): Operation not permitted (EPERM) for uid 1000";

MachineHarness Killing() {
  MachineHarness machine;
  machine.RunUntilReady().Stop().Elapse();
  return machine;
}

TEST(Stuck, ARefusedSignalIsToldAndTheDeadlineStillHolds) {
  MachineHarness machine;
  machine.RunUntilReady().Stop().Send(SignalRefused{"SIGTERM to pid 7 (sudo) of uid 0 (root): EPERM"});
  EXPECT_THAT(machine.Recorded(), ElementsAre("failed"));
  EXPECT_THAT(machine.state.reason, HasSubstr("cannot be asked to stop: SIGTERM to pid 7 (sudo) of uid 0"));
  EXPECT_THAT(machine.state.stuck, IsEmpty());
  machine.Elapse();
  EXPECT_EQ(machine.state.phase, Phase::kKilling);
}

TEST(Stuck, ARefusedSignalWithoutADeadlineIsTheEnd) {
  MachineHarness machine;
  machine.config.stop_timeout = absl::ZeroDuration();
  machine.RunUntilReady().Stop().Send(SignalRefused{"SIGTERM to pid 7: EPERM"});
  EXPECT_THAT(machine.state.stuck, HasSubstr("SIGTERM to pid 7: EPERM"));
  EXPECT_FALSE(IsGoingDown(machine.state));
}

TEST(Stuck, ARefusedKillIsGivenUpAtTheNextTry) {
  MachineHarness machine = Killing();
  machine.Send(StillThere{kWhose, true});
  EXPECT_THAT(machine.state.stuck, IsEmpty()) << "sudo goes by itself when its child is gone";
  EXPECT_EQ(machine.state.reason, kWhose);
  machine.Elapse();
  ASSERT_TRUE(machine.Did<KillTree>());
  EXPECT_TRUE(machine.Of<KillTree>().front().again);
  machine.Send(StillThere{kWhose, true});
  EXPECT_THAT(machine.state.stuck, HasSubstr(kWhose));
  EXPECT_EQ(machine.state.reason, machine.state.stuck);
  EXPECT_THAT(machine.Recorded(), ElementsAre("failed"));
  EXPECT_EQ(machine.state.phase, Phase::kKilling) << "it is there, and that is what its state says";
  EXPECT_FALSE(IsGoingDown(machine.state)) << "and nobody waits for it";
  machine.Elapse().Send(StillThere{kWhose, true});
  EXPECT_THAT(machine.Recorded(), IsEmpty()) << "told once";
}

TEST(Stuck, WhatSleepsUninterruptiblyIsGivenUpAfterTenSeconds) {
  MachineHarness machine = Killing();
  const MonoTime first = machine.now;
  for (int round = 0; round < 20 && machine.state.stuck.empty(); ++round) {
    machine.Elapse().Send(StillThere{"after SIGKILL pid 7 (dd) sleeps uninterruptibly", false});
  }
  EXPECT_EQ(machine.now - first, absl::Seconds(10));
  EXPECT_THAT(machine.state.stuck, HasSubstr("pid 7 (dd)"));
}

TEST(Stuck, ACallerIsAnsweredAtOnce) {
  MachineHarness machine = Killing();
  machine.Restart();
  EXPECT_TRUE(machine.state.attempt_open);
  machine.Elapse().Send(StillThere{kWhose, true});
  ASSERT_EQ(machine.Of<AttemptEnded>().size(), 1u);
  EXPECT_THAT(machine.Of<AttemptEnded>().front().message, HasSubstr(kWhose));
  for (int round = 0; round < 2; ++round) {
    round == 0 ? machine.Restart() : machine.Start();
    EXPECT_FALSE(machine.state.attempt_open);
    EXPECT_THAT(machine.state.reason, HasSubstr(kWhose)) << "which is the answer";
  }
}

TEST(Stuck, ShouldItGoAfterAllWhatWasAskedForFollows) {
  MachineHarness machine = Killing();
  machine.Elapse().Send(StillThere{kWhose, true}).Exit(WaitStatus::Exited(0));
  EXPECT_EQ(machine.state.phase, Phase::kStopped);
  EXPECT_THAT(machine.state.stuck, IsEmpty());
  MachineHarness other = Killing();
  other.Elapse().Send(StillThere{kWhose, true}).Start().Exit(WaitStatus::Exited(0));
  EXPECT_EQ(other.state.phase, Phase::kWaiting);
  EXPECT_THAT(other.state.stuck, IsEmpty());
}

TEST(Stuck, NewsOfAnEarlierStopMeansNothing) {
  MachineHarness machine;
  machine.RunUntilReady().Send(StillThere{kWhose, true}).Send(SignalRefused{kWhose});
  EXPECT_THAT(machine.state.stuck, IsEmpty());
  EXPECT_THAT(machine.actions, IsEmpty());
}

}  // namespace
}  // namespace supervisor
