#include "daemon/service/notify_budget.h"

#include <gtest/gtest.h>

namespace supervisor {
namespace {

int HeardOf(NotifyBudget& budget, int count, bool is_main, MonoTime now) {
  int heard = 0;
  for (int i = 0; i < count; ++i) {
    heard += budget.Take(is_main, now) ? 1 : 0;
  }
  return heard;
}

TEST(NotifyBudget, SoManyAtOnceAndSoManyASecond) {
  NotifyBudget budget;
  const MonoTime now = absl::Hours(5);
  EXPECT_EQ(HeardOf(budget, 10'000, true, now), NotifyBudget::kAtOnce);
  EXPECT_EQ(budget.dropped(), 10'000u - NotifyBudget::kAtOnce);
  EXPECT_EQ(HeardOf(budget, 10'000, true, now + absl::Seconds(1)), NotifyBudget::kASecond);
  EXPECT_EQ(HeardOf(budget, 10'000, true, now + absl::Hours(1)), NotifyBudget::kAtOnce) << "no more is saved up";
}

TEST(NotifyBudget, AServiceThatTalksAsMostDoLosesNothing) {
  NotifyBudget budget;
  for (int i = 0; i < 10'000; ++i) {
    EXPECT_TRUE(budget.Take(true, absl::Milliseconds(20) * i));
  }
  EXPECT_EQ(budget.dropped(), 0u);
}

TEST(NotifyBudget, ChildrenDoNotDrownTheMainProcess) {
  NotifyBudget budget;
  EXPECT_EQ(HeardOf(budget, 10'000, false, absl::Seconds(1)), NotifyBudget::kAtOnce);
  EXPECT_TRUE(budget.Take(true, absl::Seconds(1)));
}

TEST(NotifyBudget, ItIsToldNowAndThen) {
  NotifyBudget budget;
  EXPECT_TRUE(budget.IsNews(absl::ZeroDuration()));
  EXPECT_FALSE(budget.IsNews(absl::Seconds(1)));
  EXPECT_TRUE(budget.IsNews(absl::Hours(1)));
}

}  // namespace
}  // namespace supervisor
