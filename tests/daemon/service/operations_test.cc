#include "daemon/service/operations.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/clock.h"

namespace supervisor {
namespace {

class OperationsTest : public ::testing::Test {
 protected:
  void Add(Operations::Wanted wanted, const std::vector<std::string>& ids, absl::Duration timeout) {
    std::vector<Operations::Item> items;
    for (const std::string& id : ids) {
      items.push_back({.id = id, .implied = false, .outcome = {}});
    }
    operations_.Add(wanted, std::move(items), timeout,
                    [this](std::vector<ActionOutcome> outcomes) { answers_.push_back(std::move(outcomes)); });
  }

  // Runs the loop for that long.
  void RunFor(absl::Duration span) {
    const std::unique_ptr<Loop::Timer> end = loop_.NewTimer([this] { loop_.Stop(); });
    end->ArmAfter(span);
    loop_.Run();
  }

  Loop loop_;
  Operations operations_{loop_};
  std::vector<std::vector<ActionOutcome>> answers_;
};

TEST_F(OperationsTest, AnswersOnceWhenAllOutcomesAreKnown) {
  Add(Operations::Wanted::kUp, {"a", "b"}, absl::ZeroDuration());
  operations_.AttemptEnded("a", true, "");
  operations_.AttemptEnded("b", false, "no such file");
  operations_.AttemptEnded("b", true, "");
  RunFor(absl::Milliseconds(5));
  ASSERT_EQ(answers_.size(), 1);
  EXPECT_EQ(answers_[0][0].kind, ActionOutcome::Kind::kDone);
  EXPECT_EQ(answers_[0][1].kind, ActionOutcome::Kind::kFailed);
  EXPECT_EQ(answers_[0][1].message, "no such file");
}

TEST_F(OperationsTest, WhoIsLateHasTimedOut) {
  Add(Operations::Wanted::kUp, {"quick", "late"}, absl::Milliseconds(5));
  operations_.AttemptEnded("quick", true, "");
  RunFor(absl::Milliseconds(50));
  ASSERT_EQ(answers_.size(), 1);
  EXPECT_EQ(answers_[0][0].kind, ActionOutcome::Kind::kDone);
  EXPECT_EQ(answers_[0][1].kind, ActionOutcome::Kind::kTimedOut);
}

// The operation is gone when it is answered, so its time limit must not be looked at again, however late it is.
TEST_F(OperationsTest, TheOutcomeComesInTheVeryTurnInWhichTheTimeIsUp) {
  constexpr absl::Duration kTimeout = absl::Milliseconds(1);
  for (int round = 0; round < 20; ++round) {
    loop_.Post([this] {
      Add(Operations::Wanted::kUp, {"service-with-a-name-longer-than-a-string-keeps-within-itself"}, kTimeout);
      for (const MonoTime due = MonotonicNow() + absl::Milliseconds(4); MonotonicNow() < due;) {
      }
      operations_.AttemptEnded("service-with-a-name-longer-than-a-string-keeps-within-itself", true, "");
    });
  }
  RunFor(absl::Milliseconds(150));
  ASSERT_EQ(answers_.size(), 20);
  for (const std::vector<ActionOutcome>& outcomes : answers_) {
    ASSERT_EQ(outcomes.size(), 1);
    EXPECT_EQ(outcomes[0].kind, ActionOutcome::Kind::kDone) << outcomes[0].message;
  }
}

TEST_F(OperationsTest, WhatWasRemovedIsDownAndNotUp) {
  Add(Operations::Wanted::kUp, {"gone"}, absl::ZeroDuration());
  Add(Operations::Wanted::kDown, {"gone"}, absl::ZeroDuration());
  operations_.Removed("gone");
  RunFor(absl::Milliseconds(5));
  ASSERT_EQ(answers_.size(), 2);
  EXPECT_EQ(answers_[0][0].kind, ActionOutcome::Kind::kFailed);
  EXPECT_EQ(answers_[1][0].kind, ActionOutcome::Kind::kDone);
}

}  // namespace
}  // namespace supervisor
