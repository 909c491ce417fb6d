#include <gtest/gtest.h>

#include <csignal>

#include "daemon/service/machine.h"
#include "tests/daemon/service/machine_harness.h"

// A stop whose graceful time was cut short.

namespace supervisor {
namespace {

TEST(HurriedStop, AHurriedStopKillsAtOnce) {
  MachineHarness machine;
  machine.config.stop_timeout = absl::ZeroDuration();
  machine.RunUntilReady().Stop().Send(StopHurried{});
  EXPECT_EQ(machine.state.phase, Phase::kKilling);
  EXPECT_TRUE(machine.Did<KillTree>());
  EXPECT_EQ(machine.state.reason, "killed: the stop was hurried");
}

TEST(HurriedStop, AHurriedStopWhoseTurnHasNotComeHasNoTimeWhenItComes) {
  MachineHarness machine;
  machine.config.has_pre_stop = true;
  machine.RunUntilReady().Stop(true).Send(StopHurried{});
  EXPECT_TRUE(machine.actions.empty()) << "the order is kept";
  machine.Stop();
  EXPECT_EQ(machine.state.phase, Phase::kTerminating) << "without the hook";
  EXPECT_EQ(machine.state.deadline, machine.now);
  machine.Send(Notified{.watchdog = {}, .extend = absl::Hours(1)});
  EXPECT_EQ(machine.state.deadline, machine.now) << "EXTEND_TIMEOUT_USEC buys none";
  machine.Elapse();
  EXPECT_EQ(machine.state.phase, Phase::kKilling);
  EXPECT_EQ(machine.state.reason, "killed: the stop was hurried");
}

TEST(HurriedStop, AHurriedStopCutsItsHooksShort) {
  MachineHarness machine;
  machine.config.has_pre_stop = machine.config.has_post_stop = true;
  machine.RunUntilReady().Stop().Send(StopHurried{});
  EXPECT_TRUE(machine.Did<CancelHook>());
  machine.Send(HookEnded{HookKind::kPreStop, false, "cancelled"}).Elapse();
  EXPECT_TRUE(machine.Did<KillTree>());
  machine.Exit(WaitStatus::Signaled(SIGKILL)).Send(StopHurried{});
  EXPECT_EQ(machine.state.phase, Phase::kPostStop);
  EXPECT_TRUE(machine.Did<CancelHook>());
}

TEST(HurriedStop, HurryMeansNothingToWhatIsWantedAndNothingToTheNextStop) {
  MachineHarness machine;
  machine.RunUntilReady().Send(StopHurried{});
  EXPECT_FALSE(machine.state.stop_hurried);
  machine.Stop().Send(StopHurried{}).Exit(WaitStatus::Signaled(SIGKILL));
  EXPECT_EQ(machine.state.phase, Phase::kStopped);
  machine.RunUntilReady().Stop();
  EXPECT_EQ(machine.state.deadline, machine.now + machine.config.stop_timeout);
}

}  // namespace
}  // namespace supervisor
