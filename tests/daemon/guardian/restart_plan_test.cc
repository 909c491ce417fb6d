#include "daemon/guardian/restart_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <string>
#include <vector>

#include "daemon/guardian/guardian_voice.h"

namespace supervisor {
namespace {

using testing::ElementsAre;

constexpr int Exited(int code) { return code << 8; }
constexpr Verdict kAgain{AfterDaemon::kStartAgain, 0};

Verdict End(int exit_code) { return {AfterDaemon::kEnd, exit_code}; }

TEST(JudgeEnd, WhatWasMeantEndsTheGuardianToo) {
  for (const bool stop : {false, true}) {
    EXPECT_EQ(JudgeEnd({.status = Exited(0), .any_served = true, .stop_requested = stop}), End(0));
    EXPECT_EQ(JudgeEnd({.status = Exited(kExitOrderlyFailure), .any_served = true, .stop_requested = stop}), End(1));
  }
  EXPECT_EQ(JudgeEnd({.status = Exited(kExitForUpgrade), .any_served = true}).next, AfterDaemon::kReplaceGuardian);
  EXPECT_EQ(JudgeEnd({.status = Exited(kExitForUpgrade), .any_served = true, .stop_requested = true}), kAgain);
}

TEST(JudgeEnd, AFirstDaemonThatSaidWhyItCannotStartIsNotTriedAgain) {
  EXPECT_EQ(JudgeEnd({.status = Exited(2), .unserved = 1}), End(2));
  EXPECT_EQ(JudgeEnd({.status = Exited(1), .stop_requested = true, .unserved = 1}), End(1));
  EXPECT_EQ(JudgeEnd({.status = Exited(2), .any_served = true, .unserved = 1}), kAgain);
}

TEST(JudgeEnd, OneThatHadNoSayIsTriedAgainUntilAStop) {
  for (const int status : {SIGKILL, SIGABRT, Exited(127), int{DaemonEnd::kNotForked}}) {
    EXPECT_EQ(JudgeEnd({.status = status, .unserved = 1}), kAgain) << status;
    EXPECT_EQ(JudgeEnd({.status = status, .unserved = 1000}), kAgain) << status;
    EXPECT_EQ(JudgeEnd({.status = status, .stop_requested = true, .unserved = 1}), End(1)) << status;
  }
}

TEST(JudgeEnd, WhereServicesMayRunThreeDaemonsAreTriedToStopThem) {
  for (const bool served : {false, true}) {
    DaemonEnd end{.status = SIGKILL, .any_served = served, .has_children = !served, .stop_requested = true};
    for (end.tries_to_stop = 0; end.tries_to_stop < 3; ++end.tries_to_stop) {
      EXPECT_EQ(JudgeEnd(end), kAgain);
    }
    EXPECT_EQ(JudgeEnd(end), (Verdict{AfterDaemon::kEndServices, 1}));
  }
}

TEST(JudgeEnd, ACallerIsNotLeftWaiting) {
  DaemonEnd end{.status = SIGABRT, .is_awaited = true, .unserved = 4};
  EXPECT_EQ(JudgeEnd(end), kAgain);
  end.unserved = 5;
  EXPECT_EQ(JudgeEnd(end), End(1));
  end.has_children = true;
  EXPECT_EQ(JudgeEnd(end), kAgain) << "services of its own that nobody would look after";
  end = {.status = SIGABRT, .any_served = true, .is_awaited = true, .unserved = 5};
  EXPECT_EQ(JudgeEnd(end), kAgain) << "the caller has been answered long ago";
}

TEST(StartsFromOwnProgram, EveryOtherTimeOnceTwoHaveNotComeToServe) {
  std::vector<bool> own;
  for (int unserved = 0; unserved < 7; ++unserved) {
    own.push_back(StartsFromOwnProgram(unserved));
  }
  EXPECT_THAT(own, ElementsAre(false, false, true, false, true, false, true));
}

TEST(Line, SaysHowADaemonEnded) {
  const auto said = [](int status) { return std::string(Line().AddEnd(status).text()); };
  EXPECT_EQ(said(SIGSEGV), "was killed by SIGSEGV");
  EXPECT_EQ(said(SIGABRT | 0x80), "was killed by SIGABRT");
  EXPECT_EQ(said(40), "was killed by signal 40");
  EXPECT_EQ(said(Exited(127)), "exited with code 127");
  EXPECT_EQ(said(DaemonEnd::kNotForked), "could not be forked");
}

TEST(Line, CutsOffWhatIsTooLong) {
  Line line;
  line << "<" << int64_t{-42} << ">";
  EXPECT_STREQ(line.text(), "<-42>");
  for (int i = 0; i < 1'000; ++i) {
    line << "0123456789";
  }
  EXPECT_EQ(line.size(), 1023U);
  EXPECT_EQ(std::string(line.text()).size(), line.size());
}

TEST(RestartDelay, ADaemonThatServedForLongIsBackAtOnce) {
  EXPECT_EQ(NextRestartDelayMs(0, true, 10'000), 0);
  EXPECT_EQ(NextRestartDelayMs(200, true, 3'600'000), 0);
  EXPECT_EQ(NextRestartDelayMs(5'000, true, 10'000), 0);
}

std::vector<int64_t> Delays(bool served, int64_t lived_ms, size_t count) {
  std::vector<int64_t> delays;
  int64_t last = 0;
  while (delays.size() < count) {
    delays.push_back(last = NextRestartDelayMs(last, served, lived_ms));
  }
  return delays;
}

TEST(RestartDelay, OneThatServedForAShortTimeIsBackSoon) {
  EXPECT_THAT(Delays(true, 9'999, 7), ElementsAre(10, 20, 40, 80, 160, 200, 200));
  EXPECT_EQ(NextRestartDelayMs(5'000, true, 1), 200) << "what could not start before, and now did";
}

TEST(RestartDelay, OneThatNeverServedIsTriedEverMoreRarely) {
  EXPECT_THAT(Delays(false, 1, 9), ElementsAre(50, 100, 200, 400, 800, 1600, 3200, 5000, 5000));
  EXPECT_EQ(NextRestartDelayMs(0, false, 60'000), 50) << "to have hung for long is no merit";
}

}  // namespace
}  // namespace supervisor
