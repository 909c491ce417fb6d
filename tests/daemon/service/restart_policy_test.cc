#include "daemon/service/restart_policy.h"

#include <gtest/gtest.h>

namespace supervisor {
namespace {

using Kind = RestartDecision::Kind;

RestartPolicyConfig Policy(RestartMode mode) {
  RestartPolicyConfig policy;
  policy.mode = mode;
  policy.jitter = 0;
  return policy;
}

TEST(RestartPolicy, Modes) {
  EXPECT_EQ(DecideRestart(Policy(RestartMode::kAlways), RunEnd::kSuccess, 0, 0).kind, Kind::kRestart);
  EXPECT_EQ(DecideRestart(Policy(RestartMode::kAlways), RunEnd::kFailure, 0, 0).kind, Kind::kRestart);
  EXPECT_EQ(DecideRestart(Policy(RestartMode::kOnFailure), RunEnd::kSuccess, 0, 0).kind, Kind::kDone);
  EXPECT_EQ(DecideRestart(Policy(RestartMode::kOnFailure), RunEnd::kFailure, 0, 0).kind, Kind::kRestart);
  EXPECT_EQ(DecideRestart(Policy(RestartMode::kNever), RunEnd::kSuccess, 0, 0).kind, Kind::kDone);
  EXPECT_EQ(DecideRestart(Policy(RestartMode::kNever), RunEnd::kFailure, 0, 0).kind, Kind::kGiveUp);
}

TEST(RestartPolicy, DelayGrowsUpToItsBound) {
  RestartPolicyConfig policy = Policy(RestartMode::kAlways);
  policy.max_attempts = 0;
  policy.delay = absl::Seconds(5);
  policy.backoff_multiplier = 2;
  policy.max_delay = absl::Seconds(30);
  EXPECT_EQ(DecideRestart(policy, RunEnd::kFailure, 0, 0.5).delay, absl::Seconds(5));
  EXPECT_EQ(DecideRestart(policy, RunEnd::kFailure, 1, 0.5).delay, absl::Seconds(10));
  EXPECT_EQ(DecideRestart(policy, RunEnd::kFailure, 2, 0.5).delay, absl::Seconds(20));
  EXPECT_EQ(DecideRestart(policy, RunEnd::kFailure, 3, 0.5).delay, absl::Seconds(30));
  EXPECT_EQ(DecideRestart(policy, RunEnd::kFailure, 1'000'000, 0.5).delay, absl::Seconds(30));
}

TEST(RestartPolicy, JitterSpreadsBothWays) {
  RestartPolicyConfig policy = Policy(RestartMode::kAlways);
  policy.delay = absl::Seconds(10);
  policy.jitter = 0.1;
  EXPECT_EQ(DecideRestart(policy, RunEnd::kFailure, 0, 0).delay, absl::Seconds(9));
  EXPECT_EQ(DecideRestart(policy, RunEnd::kFailure, 0, 0.5).delay, absl::Seconds(10));
  EXPECT_LE(DecideRestart(policy, RunEnd::kFailure, 0, 0.999).delay, absl::Seconds(11));
}

TEST(RestartPolicy, MaxAttemptsOfZeroIsNoLimit) {
  RestartPolicyConfig policy = Policy(RestartMode::kAlways);
  policy.max_attempts = 0;
  EXPECT_EQ(DecideRestart(policy, RunEnd::kFailure, 100'000, 0).kind, Kind::kRestart);
  policy.max_attempts = 3;
  EXPECT_EQ(DecideRestart(policy, RunEnd::kFailure, 2, 0).kind, Kind::kRestart);
  const RestartDecision decision = DecideRestart(policy, RunEnd::kFailure, 3, 0);
  EXPECT_EQ(decision.kind, Kind::kGiveUp);
  EXPECT_EQ(decision.why, "gave up after 3 restarts");
}

TEST(RestartPolicy, ACleanExitUnderAlwaysIsNoAttempt) {
  RestartPolicyConfig policy = Policy(RestartMode::kAlways);
  policy.max_attempts = 3;
  policy.delay = absl::Seconds(5);
  policy.backoff_multiplier = 2;
  const RestartDecision decision = DecideRestart(policy, RunEnd::kSuccess, 1'000, 0.5);
  EXPECT_EQ(decision.kind, Kind::kRestart);
  EXPECT_EQ(decision.delay, absl::Seconds(5));
  EXPECT_EQ(DecideRestart(policy, RunEnd::kFailure, 3, 0.5).kind, Kind::kGiveUp);
}

TEST(SpawnAllowance, ABurstThenAnEvenPace) {
  MonoTime allowance;
  const MonoTime start = absl::Seconds(100);
  for (int i = 0; i < kSpawnBucket.burst; ++i) {
    EXPECT_EQ(TakeAllowance(allowance, start, kSpawnBucket), absl::ZeroDuration()) << i;
  }
  EXPECT_EQ(TakeAllowance(allowance, start, kSpawnBucket), kSpawnBucket.spacing);
  EXPECT_EQ(TakeAllowance(allowance, start, kSpawnBucket), 2 * kSpawnBucket.spacing);
  EXPECT_EQ(TakeAllowance(allowance, start + absl::Seconds(10), kSpawnBucket), absl::ZeroDuration());
}

TEST(SpawnAllowance, AThousandKilledAtOnceComeBackAtOnceButNotForEver) {
  MonoTime allowance;
  const MonoTime start = absl::Seconds(100);
  for (int i = 0; i < kStormBucket.burst; ++i) {
    ASSERT_EQ(TakeAllowance(allowance, start, kStormBucket), absl::ZeroDuration()) << i;
  }
  EXPECT_GT(TakeAllowance(allowance, start, kStormBucket), absl::ZeroDuration());
}

TEST(NextRandom, StaysInItsIntervalAndDependsOnTheSeedAlone) {
  uint64_t state = 7;
  uint64_t same = 7;
  for (int i = 0; i < 1000; ++i) {
    const double value = NextRandom(state);
    EXPECT_EQ(value, NextRandom(same));
    EXPECT_GE(value, 0.0);
    EXPECT_LT(value, 1.0);
  }
}

}  // namespace
}  // namespace supervisor
