#include "daemon/health/verdict.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace supervisor {
namespace {

// A history in letters: '+' a success, '-' a failure, one a second from second 1 on. The verdict after each in letters:
// 's' starting, 'h' healthy, 'u' unhealthy; upper case where ApplyResult reported the change.
struct Case {
  std::string_view name;
  int retries;
  int success_threshold;
  int start_period;  // seconds
  std::string_view history;
  std::string_view verdicts;
};

class VerdictTable : public testing::TestWithParam<Case> {};

char Letter(const VerdictChange& change) {
  switch (change.state.health) {
    case Health::kUnknown:
      return '?';
    case Health::kStarting:
      return 's';
    case Health::kHealthy:
      return change.became_healthy ? 'H' : 'h';
    case Health::kUnhealthy:
      return change.became_unhealthy ? 'U' : 'u';
  }
  return '?';
}

TEST_P(VerdictTable, Verdicts) {
  const Case& param = GetParam();
  HealthCheckConfig config;
  config.retries = param.retries;
  config.success_threshold = param.success_threshold;
  config.start_period = absl::Seconds(param.start_period);
  const MonoTime start = absl::Seconds(1000);
  VerdictState state = VerdictAtStart(start);
  std::string verdicts;
  for (size_t i = 0; i < param.history.size(); ++i) {
    const MonoTime now = start + absl::Seconds(static_cast<int64_t>(i) + 1);
    const VerdictChange change = ApplyResult(config, state, param.history[i] == '+', now);
    EXPECT_FALSE(change.became_healthy && change.became_unhealthy);
    state = change.state;
    verdicts.push_back(Letter(change));
  }
  EXPECT_EQ(verdicts, param.verdicts) << param.history;
}

INSTANTIATE_TEST_SUITE_P(
    Rules, VerdictTable,
    testing::Values(Case{"FirstSuccess", 3, 1, 0, "+", "H"}, Case{"StaysHealthy", 3, 1, 0, "+++", "Hhh"},
                    Case{"FirstSuccessSufficesWhileStarting", 3, 5, 0, "+", "H"}, Case{"OneRetry", 1, 1, 0, "-", "U"},
                    Case{"ThreeFailures", 3, 1, 0, "---", "ssU"}, Case{"ReportedOnce", 3, 1, 0, "------", "ssUuuu"},
                    Case{"StartingEndsAfterFailuresTooFew", 3, 4, 0, "--+", "ssH"},
                    Case{"HealthyToUnhealthy", 3, 1, 0, "+---", "HhhU"},
                    Case{"ASuccessForgivesFailures", 3, 1, 0, "+--+--+--", "Hhhhhhhhh"},
                    Case{"Recovers", 2, 1, 0, "--+", "sUH"}, Case{"RecoversAfterAStreak", 1, 3, 0, "-+++", "UuuH"},
                    Case{"AStreakIsBroken", 1, 3, 0, "-++-+++", "UuuuuuH"},
                    Case{"FlappingNeverRecovers", 1, 2, 0, "-+-+-+-+", "Uuuuuuuu"},
                    Case{"FlappingNeverFails", 2, 1, 0, "+-+-+-+-", "Hhhhhhhh"},
                    Case{"FlappingWithOneRetry", 1, 1, 0, "+-+-+", "HUHUH"},
                    Case{"FailuresInStartPeriodDoNotCount", 1, 1, 5, "----+", "ssssH"},
                    // Second 5 is the first that is outside.
                    Case{"StartPeriodEnds", 1, 1, 5, "-----", "ssssU"},
                    Case{"RetriesBeginAfterStartPeriod", 3, 1, 4, "------", "sssssU"},
                    Case{"AfterASuccessStartPeriodIsOver", 2, 1, 60, "-+--", "sHhU"},
                    Case{"UnhealthyWithinStartPeriodNeedsTheThreshold", 1, 2, 60, "+-++", "HUuH"},
                    Case{"RetriesBelowOneIsOne", 0, 1, 0, "+-", "HU"},
                    Case{"ThresholdBelowOneIsOne", 1, 0, 0, "-+", "UH"},
                    Case{"NegativeStartPeriod", 1, 1, -5, "-", "U"}),
    [](const testing::TestParamInfo<Case>& tested) { return std::string(tested.param.name); });

TEST(Verdict, AtStart) {
  const VerdictState state = VerdictAtStart(absl::Seconds(7));
  EXPECT_EQ(state.health, Health::kStarting);
  EXPECT_EQ(state.started, absl::Seconds(7));
  EXPECT_EQ(state.checks, 0);
  EXPECT_EQ(state.success_rate(), 0);
}

TEST(Verdict, CountsWhatCounts) {
  HealthCheckConfig config;
  config.start_period = absl::Seconds(10);
  VerdictState state = VerdictAtStart(absl::ZeroDuration());
  const auto apply = [&](bool success, int second) {
    state = ApplyResult(config, state, success, absl::Seconds(second)).state;
  };
  apply(false, 1);  // within the start period
  EXPECT_EQ(state.checks, 0);
  EXPECT_EQ(state.consecutive_failures, 0);
  apply(true, 2);
  apply(true, 3);
  EXPECT_EQ(state.consecutive_successes, 2);
  apply(false, 4);
  apply(false, 5);
  EXPECT_EQ(state.consecutive_failures, 2);
  EXPECT_EQ(state.consecutive_successes, 0);
  EXPECT_EQ(state.checks, 4);
  EXPECT_EQ(state.successes, 2);
  EXPECT_DOUBLE_EQ(state.success_rate(), 50);
  apply(true, 6);
  EXPECT_EQ(state.consecutive_failures, 0);
  EXPECT_TRUE(state.succeeded_once);
}

TEST(Verdict, EndlessStartPeriod) {
  HealthCheckConfig config;
  config.retries = 1;
  config.start_period = absl::InfiniteDuration();
  VerdictState state = VerdictAtStart(absl::ZeroDuration());
  state = ApplyResult(config, state, false, absl::Hours(100000)).state;
  EXPECT_EQ(state.health, Health::kStarting);
}

TEST(Verdict, NeverStartedCountsFromZero) {
  HealthCheckConfig config;
  config.retries = 1;
  const VerdictChange change = ApplyResult(config, VerdictState{}, true, absl::Seconds(1));
  EXPECT_TRUE(change.became_healthy);
}

TEST(Verdict, Names) {
  EXPECT_STREQ(HealthName(Health::kUnknown), "unknown");
  EXPECT_STREQ(HealthName(Health::kStarting), "starting");
  EXPECT_STREQ(HealthName(Health::kHealthy), "healthy");
  EXPECT_STREQ(HealthName(Health::kUnhealthy), "unhealthy");
}

}  // namespace
}  // namespace supervisor
