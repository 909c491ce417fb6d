#include "daemon/notify/alert_repeats.h"

#include <gtest/gtest.h>

namespace supervisor {
namespace {

class AlertRepeatsTest : public testing::Test {
 protected:
  void Open(const std::string& id, absl::Time raised) {
    Alert alert;
    alert.service_id = id;
    alert.rule = "failed";
    alert.raised = raised;
    open_[{id, "failed"}] = alert;
    repeats_.Opened(alert, now_);
  }
  void Pass(absl::Duration time) {
    now_.mono += time;
    now_.wall += time;
  }
  // "web 2": told for the second time since it was raised.
  std::string TakeDue() {
    std::string text;
    for (const Alert& alert : repeats_.TakeDue(open_, now_)) {
      text += (text.empty() ? "" : ", ") + alert.service_id + " " + std::to_string(alert.repeats);
    }
    return text;
  }
  absl::Duration NextIn() const { return repeats_.Next() - now_.mono; }

  AlertBook::Alerts open_;
  AlertTime now_{absl::Hours(5), absl::FromUnixSeconds(1'000'000)};
  AlertRepeats repeats_;
};

TEST_F(AlertRepeatsTest, NothingIsRepeatedUnlessAskedFor) {
  Open("web", now_.wall);
  EXPECT_EQ(repeats_.Next(), kNoDeadline);
  Pass(absl::Hours(100));
  EXPECT_EQ(TakeDue(), "");
}

TEST_F(AlertRepeatsTest, EachIntervalUntilItIsClosed) {
  repeats_.SetInterval(absl::Minutes(10), open_, now_);
  Open("web", now_.wall);
  EXPECT_EQ(NextIn(), absl::Minutes(10));
  Pass(absl::Minutes(10) - absl::Milliseconds(1));
  EXPECT_EQ(TakeDue(), "");
  Pass(absl::Milliseconds(1));
  EXPECT_EQ(TakeDue(), "web 1");
  EXPECT_EQ(TakeDue(), "");
  Pass(absl::Minutes(10));
  EXPECT_EQ(TakeDue(), "web 2");
  repeats_.Closed(open_.begin()->second);
  EXPECT_EQ(repeats_.Next(), kNoDeadline);
}

TEST_F(AlertRepeatsTest, ARestartOfTheDaemonKeepsTheStep) {
  repeats_.SetInterval(absl::Minutes(10), open_, now_);
  Open("web", now_.wall - absl::Minutes(34));  // as read from the database
  EXPECT_EQ(NextIn(), absl::Minutes(6));
  Pass(absl::Minutes(6));
  EXPECT_EQ(TakeDue(), "web 4");
  EXPECT_EQ(NextIn(), absl::Minutes(10));
}

TEST_F(AlertRepeatsTest, AReloadChangesTheStep) {
  Open("web", now_.wall - absl::Minutes(34));
  repeats_.SetInterval(absl::Minutes(60), open_, now_);
  EXPECT_EQ(NextIn(), absl::Minutes(26));
  repeats_.SetInterval(absl::Minutes(10), open_, now_);
  EXPECT_EQ(NextIn(), absl::Minutes(6));
  repeats_.SetInterval(absl::ZeroDuration(), open_, now_);
  EXPECT_EQ(repeats_.Next(), kNoDeadline);
}

TEST_F(AlertRepeatsTest, WhatWasMissedIsToldOnce) {
  repeats_.SetInterval(absl::Minutes(10), open_, now_);
  Open("web", now_.wall);
  Pass(absl::Minutes(47));
  EXPECT_EQ(TakeDue(), "web 4");
  EXPECT_EQ(NextIn(), absl::Minutes(3));
}

TEST_F(AlertRepeatsTest, AClockThatWasSetBackDoesNotSilenceIt) {
  repeats_.SetInterval(absl::Minutes(10), open_, now_);
  Open("web", now_.wall + absl::Hours(1000));
  EXPECT_EQ(NextIn(), absl::Minutes(10));
  Pass(absl::Minutes(10));
  EXPECT_EQ(TakeDue(), "web 1");
}

TEST_F(AlertRepeatsTest, ClocksThatDriftApartDoNotMiscount) {
  repeats_.SetInterval(absl::Minutes(10), open_, now_);
  Open("web", now_.wall);
  Pass(absl::Minutes(10));
  EXPECT_EQ(TakeDue(), "web 1");
  Pass(absl::Minutes(10));
  now_.wall -= absl::Seconds(1);
  EXPECT_EQ(TakeDue(), "web 2");
}

TEST_F(AlertRepeatsTest, EachHasItsOwnStep) {
  repeats_.SetInterval(absl::Minutes(10), open_, now_);
  Open("a", now_.wall);
  Pass(absl::Minutes(4));
  Open("b", now_.wall);
  Pass(absl::Minutes(6));
  EXPECT_EQ(TakeDue(), "a 1");
  EXPECT_EQ(NextIn(), absl::Minutes(4));
  Pass(absl::Minutes(10));
  EXPECT_EQ(TakeDue(), "a 2, b 1");
}

}  // namespace
}  // namespace supervisor
