#include "daemon/loop/hang_judge.h"

#include <gtest/gtest.h>

namespace supervisor {
namespace {

using Thread = HangJudge::Thread;
using Verdict = HangJudge::Verdict;

// Looks at one and the same callback, the interval apart, until the verdict is not kFine; how long that took.
struct Course {
  Verdict verdict = Verdict::kFine;
  absl::Duration after;
};
Course UntilVerdict(HangJudge& judge, Thread thread, absl::Duration cpu_each, uint64_t callbacks = 7) {
  Course course;
  absl::Duration cpu = absl::Seconds(100);
  for (int look = 0; look < 200; ++look) {
    course.verdict =
        judge.Judge({.callbacks = callbacks, .thread = thread, .cpu = cpu, .since_last = HangJudge::kInterval});
    if (course.verdict != Verdict::kFine) {
      return course;
    }
    course.after += HangJudge::kInterval;
    cpu += cpu_each;
  }
  return course;
}

TEST(HangJudge, ACallbackThatWaitsIsToldAndThenHangs) {
  HangJudge judge;
  const Course told = UntilVerdict(judge, Thread::kWaits, absl::ZeroDuration());
  EXPECT_EQ(told.verdict, Verdict::kTell);
  EXPECT_LE(told.after, HangJudge::kTellAfter + HangJudge::kInterval);
  const Course hung = UntilVerdict(judge, Thread::kWaits, absl::ZeroDuration());
  EXPECT_EQ(hung.verdict, Verdict::kHangs);
  EXPECT_GE(judge.waited(), HangJudge::kEndAfterWaiting);
  EXPECT_LE(judge.waited(), HangJudge::kEndAfterWaiting + HangJudge::kInterval);
  EXPECT_EQ(UntilVerdict(judge, Thread::kWaits, absl::ZeroDuration()).verdict, Verdict::kFine) << "told once";
}

TEST(HangJudge, OneThatComputesHasMoreTime) {
  HangJudge judge;
  EXPECT_EQ(UntilVerdict(judge, Thread::kRuns, HangJudge::kInterval).verdict, Verdict::kTell);
  EXPECT_EQ(UntilVerdict(judge, Thread::kRuns, HangJudge::kInterval).verdict, Verdict::kHangs);
  EXPECT_GE(judge.computed(), HangJudge::kEndAfterComputing);
}

TEST(HangJudge, OneThatGetsNoProcessorIsNotToBlame) {
  HangJudge judge;
  EXPECT_EQ(UntilVerdict(judge, Thread::kRuns, absl::ZeroDuration()).verdict, Verdict::kFine);
}

TEST(HangJudge, NorIsOneThatIsStoppedOrWaitsForADisk) {
  HangJudge judge;
  EXPECT_EQ(UntilVerdict(judge, Thread::kStalled, absl::ZeroDuration()).verdict, Verdict::kFine);
}

TEST(HangJudge, AnIdleLoopIsFine) {
  HangJudge judge;
  EXPECT_EQ(UntilVerdict(judge, Thread::kWaits, absl::ZeroDuration(), 8).verdict, Verdict::kFine);
}

TEST(HangJudge, SoIsABusyOneWithManyCallbacks) {
  HangJudge judge;
  for (uint64_t callbacks = 1; callbacks < 401; callbacks += 2) {
    EXPECT_EQ(judge.Judge({.callbacks = callbacks,
                           .thread = Thread::kWaits,
                           .cpu = absl::Seconds(callbacks),
                           .since_last = HangJudge::kInterval}),
              Verdict::kFine);
  }
}

TEST(HangJudge, WhatTheWholeProcessWasHeldUpForDoesNotCount) {
  HangJudge judge;
  for (int look = 0; look < 200; ++look) {
    EXPECT_EQ(judge.Judge({.callbacks = 7,
                           .thread = Thread::kWaits,
                           .cpu = absl::ZeroDuration(),
                           .since_last = look % 2 == 0 ? absl::Hours(1) : 2 * HangJudge::kInterval}),
              Verdict::kFine);
  }
}

TEST(HangJudge, TheNextCallbackBeginsAnew) {
  HangJudge judge;
  EXPECT_EQ(UntilVerdict(judge, Thread::kWaits, absl::ZeroDuration(), 7).verdict, Verdict::kTell);
  EXPECT_EQ(UntilVerdict(judge, Thread::kWaits, absl::ZeroDuration(), 9).verdict, Verdict::kTell);
}

}  // namespace
}  // namespace supervisor
