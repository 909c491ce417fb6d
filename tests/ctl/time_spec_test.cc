#include "ctl/render/time_spec.h"

#include <gtest/gtest.h>

namespace supervisor {
namespace {

constexpr int64_t kNowMs = 1795418895042;  // 2026-11-23 07:28:15.042

std::optional<int64_t> Parse(std::string_view text) { return ParseTimeSpec(text, absl::FromUnixMillis(kNowMs)); }

TEST(TimeSpecTest, TakesTimesInUtc) {
  EXPECT_EQ(Parse("2026-11-23 07:28:15"), kNowMs - 42);
  EXPECT_EQ(Parse("2026-11-23 07:28:15.042"), kNowMs);
  EXPECT_EQ(Parse("2026-11-23 07:28:15.0429"), kNowMs);
  EXPECT_EQ(Parse("2026-11-23T07:28:15Z"), kNowMs - 42);
  EXPECT_EQ(Parse("2026-11-23T07:28:15"), kNowMs - 42);
  EXPECT_EQ(Parse("2026-11-23T09:28:15+02:00"), kNowMs - 42);
  EXPECT_EQ(Parse("2026-11-23T02:28:15-0500"), kNowMs - 42);
  EXPECT_EQ(Parse("2026-11-23 07:28"), kNowMs - 15042);
  EXPECT_EQ(Parse("2026-11-23"), kNowMs - 15042 - 28 * 60000 - 7 * 3600000);
  EXPECT_EQ(Parse("@1795418895"), kNowMs - 42);
  EXPECT_EQ(Parse("@1795418895.042"), kNowMs);
  EXPECT_EQ(Parse("2024-02-29"), 1709164800000);
}

TEST(TimeSpecTest, TakesSpansAgo) {
  EXPECT_EQ(Parse("now"), kNowMs);
  EXPECT_EQ(Parse("90s"), kNowMs - 90000);
  EXPECT_EQ(Parse("10m"), kNowMs - 600000);
  EXPECT_EQ(Parse("2h"), kNowMs - 7200000);
  EXPECT_EQ(Parse("1d"), kNowMs - 86400000);
  EXPECT_EQ(Parse("1w"), kNowMs - 7 * 86400000);
  EXPECT_EQ(Parse("500ms"), kNowMs - 500);
  EXPECT_EQ(Parse("1h30m"), kNowMs - 5400000);
  EXPECT_EQ(Parse("1.5h ago"), kNowMs - 5400000);
  EXPECT_EQ(Parse("0s"), kNowMs);
  EXPECT_EQ(Parse("100000d"), 1);  // before the epoch: everything
}

TEST(TimeSpecTest, TakesSpansAsPeopleWriteThem) {
  constexpr int64_t kHourMs = 3600000;
  for (const std::string_view text :
       {"-2h", "2 hours", "2 hours ago", "2hours ago", "2 hr", "120 min", "120 minutes ago", "7200 seconds",
        "1 hour 60 min", "-1h 60m", "1h 60m ago", "7200sec"}) {
    EXPECT_EQ(Parse(text), kNowMs - 2 * kHourMs) << text;
  }
  for (const std::string_view text : {"2 days", "2 days ago", "48h", "-2d", "1 day 24 hours"}) {
    EXPECT_EQ(Parse(text), kNowMs - 48 * kHourMs) << text;
  }
  EXPECT_EQ(Parse("2 weeks"), kNowMs - 14 * 24 * kHourMs);
}

TEST(TimeSpecTest, TakesTimesOfANamedDay) {
  const int64_t midnight = *Parse("2026-11-23");
  EXPECT_EQ(Parse("today"), midnight);
  EXPECT_EQ(Parse("yesterday"), midnight - 86400000);
  EXPECT_EQ(Parse("tomorrow"), midnight + 86400000);
  EXPECT_EQ(Parse("14:00"), *Parse("2026-11-23 14:00"));
  EXPECT_EQ(Parse("07:28:15.042"), kNowMs);
  EXPECT_EQ(Parse("14:00+02:00"), *Parse("2026-11-23 12:00"));
  EXPECT_EQ(Parse("today 06:30"), *Parse("2026-11-23 06:30"));
  EXPECT_EQ(Parse("yesterday 14:00:01"), *Parse("2026-11-22 14:00:01"));
}

TEST(TimeSpecTest, TheEpochIsATimeThoughZeroIsNoBound) {
  EXPECT_EQ(Parse("@0"), 1);
  EXPECT_EQ(Parse("1970-01-01"), 1);
  EXPECT_EQ(Parse("1970-01-01T00:00:00+02:00"), 1);
  EXPECT_EQ(Parse("1969-12-31"), 1);
}

TEST(TimeSpecTest, RefusesWhatIsNoTime) {
  for (const std::string_view text : {"",
                                      " ",
                                      "yesterday-ish",
                                      "10",
                                      "m",
                                      "10x",
                                      "--5m",
                                      "-5m ago",
                                      "-",
                                      "-1h x",
                                      "5 fortnights",
                                      "m5",
                                      "yesterday ",
                                      "yesterday14:00",
                                      "yesterday 25:00",
                                      "14",
                                      "14:",
                                      "14:0",
                                      "24:00",
                                      "14:00 CET",
                                      "today 14:00 14:00",
                                      "10m 3",
                                      "2026",
                                      "2026-13-01",
                                      "2026-02-29",
                                      "2026-11-31",
                                      "2026-11-23 24:00:00",
                                      "2026-11-23 07:60",
                                      "2026-11-23 07:28:15.",
                                      "2026-11-23 07:28:15+25:00",
                                      "2026-11-23 07:28:15 CET",
                                      "2026-11-23x",
                                      "2026-11-23 ",
                                      "@",
                                      "@-1",
                                      "@1e5",
                                      "@99999999999999",
                                      "1e3s",
                                      "nan",
                                      "infs",
                                      " ago",
                                      "26-11-23"}) {
    EXPECT_EQ(Parse(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace supervisor
