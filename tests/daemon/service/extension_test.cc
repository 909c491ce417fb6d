#include <gtest/gtest.h>

#include "tests/daemon/service/machine_harness.h"

// EXTEND_TIMEOUT_USEC (sd_notify(3)), and what bounds it.

namespace supervisor {
namespace {

MachineHarness Notifying() {
  MachineHarness machine;
  machine.config.readiness.type = ReadinessType::kNotify;
  machine.config.readiness.timeout = absl::Seconds(60);
  return machine;
}

constexpr absl::Duration kCentury = absl::Hours(24 * 36525);

TEST(Extension, AStopIsExtendedByNoMoreThanIsAllowed) {
  MachineHarness machine = Notifying();
  machine.config.stop_extension = absl::Seconds(30);
  machine.RunUntilReady().Send(Notified{.ready = true, .watchdog = {}, .extend = {}}).Stop();
  const MonoTime latest = machine.now + machine.config.stop_timeout + absl::Seconds(30);
  machine.Send(Notified{.watchdog = {}, .extend = kCentury});
  EXPECT_EQ(machine.state.deadline, latest);
  machine.now += absl::Seconds(20);
  machine.Send(Notified{.watchdog = {}, .extend = absl::Seconds(25)});
  EXPECT_EQ(machine.state.deadline, latest) << "the sum counts, not each";
  machine.Elapse();
  EXPECT_EQ(machine.state.phase, Phase::kKilling);
}

TEST(Extension, SoIsAStart) {
  MachineHarness machine = Notifying();
  machine.config.readiness.max_extension = absl::Seconds(30);
  machine.RunUntilReady();
  ASSERT_EQ(machine.state.phase, Phase::kBecomingReady);
  const MonoTime latest = machine.now + machine.config.readiness.timeout + absl::Seconds(30);
  machine.Send(Notified{.watchdog = {}, .extend = kCentury});
  EXPECT_EQ(machine.state.deadline, latest);
  machine.Elapse();
  EXPECT_EQ(machine.state.phase, Phase::kTerminating);
}

TEST(Extension, NoStopIsExtendedWhileTheDaemonShutsDown) {
  MachineHarness machine = Notifying();
  machine.config.is_shutting_down = true;
  machine.RunUntilReady().Send(Notified{.ready = true, .watchdog = {}, .extend = {}}).Stop();
  const MonoTime deadline = machine.state.deadline;
  EXPECT_EQ(deadline, machine.now + machine.config.stop_timeout);
  machine.Send(Notified{.watchdog = {}, .extend = kCentury});
  EXPECT_EQ(machine.state.deadline, deadline);
}

TEST(Extension, AShutdownTakesBackWhatAStopWasGranted) {
  MachineHarness machine = Notifying();
  machine.RunUntilReady().Send(Notified{.ready = true, .watchdog = {}, .extend = {}}).Stop();
  const MonoTime first = machine.state.deadline;
  machine.Send(Notified{.watchdog = {}, .extend = absl::Seconds(100)});
  machine.now += absl::Seconds(1);
  machine.config.is_shutting_down = true;
  machine.Stop(true);
  EXPECT_EQ(machine.state.deadline, first);
  machine.now = first + absl::Seconds(50);
  machine.config.is_shutting_down = false;
  machine.Send(Notified{.watchdog = {}, .extend = absl::Seconds(100)});
  machine.config.is_shutting_down = true;
  machine.Stop(true);
  EXPECT_EQ(machine.state.deadline, machine.now) << "that is over: now";
}

}  // namespace
}  // namespace supervisor
