#include "daemon/service/check_cycle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace supervisor {
namespace {

HealthCheckConfig Config() {
  HealthCheckConfig config;
  config.type = HealthCheckType::kTcp;
  config.interval = absl::Seconds(30);
  config.retries = 2;
  return config;
}

// Plays the driver: makes what is due, answers as told, a hundred milliseconds later.
class Cycle {
 public:
  explicit Cycle(HealthCheckConfig given, uint64_t seed = 7) : config(std::move(given)) { state.random = seed; }

  void Take(CheckCycleStep step) {
    state = step.state;
    last = step;
  }
  void Begin(bool awaits_readiness = false, const std::optional<VerdictState>& verdict = std::nullopt) {
    Take(BeginChecks(config, state, awaits_readiness, verdict, now));
  }
  // Waits until the next check is due, and begins it; how long that took.
  absl::Duration ToNext() {
    const absl::Duration wait = state.due - now;
    now = std::max(now, state.due);
    Take(CheckIsDue(state, now));
    return wait;
  }
  void Answer(bool success) {
    now += absl::Milliseconds(100);
    Take(TakeCheckResult(config, state, state.check, success, now));
  }
  void Check(bool success) {
    ToNext();
    ASSERT_TRUE(last.begin_check);
    Answer(success);
  }

  HealthCheckConfig config;
  MonoTime now = absl::Seconds(1000);
  CheckCycleState state;
  CheckCycleStep last;
};

TEST(CheckCycle, WithoutACheckNothingHappens) {
  Cycle cycle(HealthCheckConfig{});
  cycle.Begin();
  EXPECT_FALSE(cycle.state.running);
  EXPECT_EQ(cycle.state.due, kNoDeadline);
  cycle.Take(CheckIsDue(cycle.state, cycle.now));
  EXPECT_FALSE(cycle.last.begin_check);
}

TEST(CheckCycle, OneCheckAtATime) {
  Cycle cycle(Config());
  cycle.Begin();
  cycle.ToNext();
  ASSERT_TRUE(cycle.last.begin_check);
  EXPECT_EQ(cycle.state.due, kNoDeadline);
  cycle.now += absl::Hours(1);
  cycle.Take(CheckIsDue(cycle.state, cycle.now));
  EXPECT_FALSE(cycle.last.begin_check);
  cycle.Answer(true);
  EXPECT_TRUE(cycle.last.took_result);
  EXPECT_GT(cycle.state.due, cycle.now);
  cycle.Take(CheckIsDue(cycle.state, cycle.now));  // a timer that is early
  EXPECT_FALSE(cycle.last.begin_check);
}

TEST(CheckCycle, LateResultsChangeNothing) {
  Cycle cycle(Config());
  cycle.Begin();
  cycle.ToNext();
  const uint64_t old = cycle.state.check;
  cycle.Take(EndChecks(cycle.state));
  EXPECT_TRUE(cycle.last.cancel_check);
  const auto late = [&] {
    const CheckCycleStep step = TakeCheckResult(cycle.config, cycle.state, old, false, cycle.now);
    EXPECT_FALSE(step.took_result || step.became_unhealthy || step.wants_restart || step.became_healthy);
    EXPECT_EQ(step.state.verdict.checks, cycle.state.verdict.checks);
    EXPECT_EQ(step.state.due, cycle.state.due);
    EXPECT_EQ(step.state.under_way, cycle.state.under_way);
  };
  late();  // stopped
  cycle.Begin();
  late();  // started again, no check yet
  cycle.ToNext();
  late();  // the next process's check is under way
  cycle.Answer(true);
  EXPECT_TRUE(cycle.last.became_healthy);
  late();
}

TEST(CheckCycle, ReadinessIsAskedForQuicklyAndFailuresCountOnlyAfterIt) {
  Cycle cycle(Config());
  cycle.Begin(true);
  EXPECT_EQ(cycle.ToNext(), absl::ZeroDuration());
  cycle.Answer(false);
  for (int i = 0; i < 20; ++i) {
    EXPECT_LE(cycle.ToNext(), absl::Milliseconds(250));
    cycle.Answer(false);
    EXPECT_TRUE(cycle.last.took_result);
    EXPECT_FALSE(cycle.last.became_unhealthy || cycle.last.wants_restart);
  }
  EXPECT_EQ(cycle.state.verdict.health, Health::kStarting);
  cycle.Check(true);
  EXPECT_TRUE(cycle.last.became_healthy);
  cycle.Take(ServiceIsReady(cycle.state));
  cycle.Check(false);
  EXPECT_FALSE(cycle.last.wants_restart);
  cycle.Check(false);
  EXPECT_TRUE(cycle.last.became_unhealthy);
  EXPECT_TRUE(cycle.last.wants_restart);
}

TEST(CheckCycle, EachFailureOfAnUnhealthyServiceAsksAgain) {
  Cycle cycle(Config());
  cycle.Begin();
  cycle.Check(false);
  cycle.Check(false);
  EXPECT_TRUE(cycle.last.became_unhealthy && cycle.last.wants_restart);
  cycle.Check(false);
  EXPECT_FALSE(cycle.last.became_unhealthy);
  EXPECT_TRUE(cycle.last.wants_restart);
  cycle.config.on_failure = OnFailure::kAlert;
  cycle.Check(false);
  EXPECT_FALSE(cycle.last.wants_restart);
}

TEST(CheckCycle, TheFirstCheckComesSoonAndLaterOnesAreSpread) {
  constexpr int kServices = 500;
  std::vector<absl::Duration> first;
  std::vector<absl::Duration> second;
  for (uint64_t seed = 1; seed <= kServices; ++seed) {
    Cycle cycle(Config(), seed);
    cycle.Begin();
    first.push_back(cycle.ToNext());
    cycle.Answer(true);
    second.push_back(cycle.ToNext());
    cycle.Answer(true);
    const absl::Duration third = cycle.ToNext();
    EXPECT_GE(third, 0.95 * cycle.config.interval);
    EXPECT_LE(third, 1.05 * cycle.config.interval);
  }
  // Never many of the five hundred at once: in no tenth of the span more than twice their share.
  const auto spread = [&](const std::vector<absl::Duration>& waits, absl::Duration from, absl::Duration to) {
    std::vector<int> tenths(10);
    for (const absl::Duration wait : waits) {
      ASSERT_GE(wait, from);
      ASSERT_LE(wait, to);
      const double place = absl::FDivDuration(wait - from, to - from);
      ++tenths[static_cast<size_t>(std::min(9.0, 10 * place))];
    }
    EXPECT_LE(*std::max_element(tenths.begin(), tenths.end()), 2 * kServices / 10);
  };
  spread(first, absl::ZeroDuration(), absl::Seconds(1));
  spread(second, absl::Seconds(15), absl::Seconds(30));
}

TEST(CheckCycle, AVerdictGoesOnOverAnAdoption) {
  Cycle before(Config());
  before.Begin();
  before.Check(true);
  before.Check(false);
  Cycle after(Config());
  after.now = before.now;
  after.Begin(false, before.state.verdict);
  EXPECT_EQ(after.state.verdict.health, Health::kHealthy);
  EXPECT_EQ(after.state.verdict.consecutive_failures, 1);
  after.Check(false);
  EXPECT_TRUE(after.last.became_unhealthy);
  EXPECT_EQ(after.state.verdict.checks, 3);
  // One that was not ready yet has to show that it is, whatever was found of it.
  Cycle unready(Config());
  unready.Begin(true, before.state.verdict);
  EXPECT_EQ(unready.state.verdict.health, Health::kStarting);
  unready.Check(true);
  EXPECT_TRUE(unready.last.became_healthy);
}

TEST(CheckCycle, AnotherConfigurationKeepsTheVerdict) {
  Cycle cycle(Config());
  cycle.Begin();
  cycle.Check(true);
  cycle.config.interval = absl::Milliseconds(50);
  cycle.Take(ChangeChecks(cycle.config, cycle.state, cycle.now));
  EXPECT_EQ(cycle.state.verdict.health, Health::kHealthy);
  EXPECT_LE(cycle.state.due, cycle.now + absl::Milliseconds(50));
  cycle.ToNext();
  cycle.Take(ChangeChecks(cycle.config, cycle.state, cycle.now));
  EXPECT_TRUE(cycle.state.under_way);
  cycle.config.type = HealthCheckType::kNone;
  cycle.Take(ChangeChecks(cycle.config, cycle.state, cycle.now));
  EXPECT_TRUE(cycle.last.cancel_check);
  EXPECT_FALSE(cycle.state.running);
  cycle.config.type = HealthCheckType::kHttp;
  cycle.Take(ChangeChecks(cycle.config, cycle.state, cycle.now));
  EXPECT_TRUE(cycle.state.running);
  EXPECT_EQ(cycle.state.verdict.health, Health::kStarting);
}

TEST(CheckCycle, AnotherConfigurationIsTriedAtOnceByWhoWaitsForIt) {
  Cycle cycle(Config());
  cycle.Begin(true);
  cycle.Check(false);
  cycle.config.interval = absl::Hours(1);
  cycle.Take(ChangeChecks(cycle.config, cycle.state, cycle.now));
  EXPECT_LE(cycle.state.due, cycle.now + absl::Milliseconds(250));
  EXPECT_TRUE(cycle.state.awaits_readiness);
  cycle.Check(false);
  EXPECT_EQ(cycle.state.verdict.health, Health::kStarting) << "failures still count for nothing";
}

TEST(CheckCycle, ACheckThatCouldNotBeMadeSaysNothing) {
  Cycle cycle(Config());
  cycle.Begin(false);
  cycle.Check(true);
  const Health before = cycle.state.verdict.health;
  cycle.now = cycle.state.due;
  cycle.Take(CheckIsDue(cycle.state, cycle.now));
  ASSERT_TRUE(cycle.state.under_way);
  cycle.Take(AbandonCheck(cycle.config, cycle.state, cycle.now));
  EXPECT_FALSE(cycle.state.under_way);
  EXPECT_GT(cycle.state.due, cycle.now);
  EXPECT_EQ(cycle.state.verdict.health, before);
  EXPECT_EQ(cycle.state.verdict.consecutive_failures, 0);
}

}  // namespace
}  // namespace supervisor
