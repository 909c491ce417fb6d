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
                                      "-5m",
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
