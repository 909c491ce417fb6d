#include "daemon/service/operations.h"

#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <utility>
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
    operations_.Add(wanted, std::move(items), timeout, [this](std::vector<ActionOutcome> outcomes) {
      answers_.push_back(std::move(outcomes));
      if (answers_.size() == wanted_) {
        loop_.Stop();
      }
    });
  }

  // Runs the loop until so many answers have come, and a moment longer for those that must not.
  void RunUntilAnswered(size_t count) {
    const std::unique_ptr<Loop::Timer> end = loop_.NewTimer([this] { loop_.Stop(); });
    if (answers_.size() < count) {
      wanted_ = count;
      end->ArmAfter(absl::Seconds(10));
      loop_.Run();
      wanted_ = kNever;
    }
    end->ArmAfter(absl::Milliseconds(5));
    loop_.Run();
  }

  Loop loop_;
  Operations operations_{loop_};
  std::vector<std::vector<ActionOutcome>> answers_;

 private:
  static constexpr size_t kNever = std::numeric_limits<size_t>::max();
  size_t wanted_ = kNever;
};

TEST_F(OperationsTest, AnswersOnceWhenAllOutcomesAreKnown) {
  Add(Operations::Wanted::kUp, {"a", "b"}, absl::ZeroDuration());
  operations_.AttemptEnded("a", true, "");
  operations_.AttemptEnded("b", false, "no such file");
  operations_.AttemptEnded("b", true, "");
  RunUntilAnswered(1);
  ASSERT_EQ(answers_.size(), 1);
  EXPECT_EQ(answers_[0][0].kind, ActionOutcome::Kind::kDone);
  EXPECT_EQ(answers_[0][1].kind, ActionOutcome::Kind::kFailed);
  EXPECT_EQ(answers_[0][1].message, "no such file");
}

TEST_F(OperationsTest, WhoIsLateHasTimedOut) {
  Add(Operations::Wanted::kUp, {"quick", "late"}, absl::Milliseconds(5));
  operations_.AttemptEnded("quick", true, "");
  RunUntilAnswered(1);
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
  RunUntilAnswered(20);
  ASSERT_EQ(answers_.size(), 20);
  for (const std::vector<ActionOutcome>& outcomes : answers_) {
    ASSERT_EQ(outcomes.size(), 1);
    EXPECT_EQ(outcomes[0].kind, ActionOutcome::Kind::kDone) << outcomes[0].message;
  }
}

TEST_F(OperationsTest, WhoeverWaitsForARenamedOneGoesOnWaiting) {
  Add(Operations::Wanted::kUp, {"w"}, absl::ZeroDuration());
  operations_.Renamed("w", "w:0");
  operations_.AttemptEnded("w", false, "it is another one by now");
  operations_.AttemptEnded("w:0", true, "");
  RunUntilAnswered(1);
  ASSERT_EQ(answers_.size(), 1);
  EXPECT_EQ(answers_[0][0].id, "w:0");
  EXPECT_EQ(answers_[0][0].kind, ActionOutcome::Kind::kDone);
}

TEST_F(OperationsTest, WhatWasRemovedIsDownAndNotUp) {
  Add(Operations::Wanted::kUp, {"gone"}, absl::ZeroDuration());
  Add(Operations::Wanted::kDown, {"gone"}, absl::ZeroDuration());
  operations_.Removed("gone");
  RunUntilAnswered(2);
  ASSERT_EQ(answers_.size(), 2);
  EXPECT_EQ(answers_[0][0].kind, ActionOutcome::Kind::kFailed);
  EXPECT_EQ(answers_[1][0].kind, ActionOutcome::Kind::kDone);
}

}  // namespace
}  // namespace supervisor
