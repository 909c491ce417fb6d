#include "daemon/store/row_text.h"

#include <gtest/gtest.h>

#include "common/time_format.h"

namespace supervisor {
namespace {

TEST(RowText, ValidUtf8StaysAsItIs) {
  for (const std::string text :
       {"", "plain", "h\xC3\xA9llo", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\xEF\xBF\xBD", "a\n\t\x7f"}) {
    EXPECT_EQ(WithValidUtf8(text), text);
  }
}

TEST(RowText, EverythingElseIsReplaced) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(WithValidUtf8("a\xFFz"), "a" + r + "z");
  EXPECT_EQ(WithValidUtf8(std::string("a\0z", 3)), "a" + r + "z");
  EXPECT_EQ(WithValidUtf8("\xC3"), r);                          // cut off
  EXPECT_EQ(WithValidUtf8("\xE2\x82"), r + r);                  // cut off
  EXPECT_EQ(WithValidUtf8("\xC0\xAF"), r + r);                  // overlong
  EXPECT_EQ(WithValidUtf8("\xE0\x80\xAF"), r + r + r);          // overlong
  EXPECT_EQ(WithValidUtf8("\xED\xA0\x80"), r + r + r);          // surrogate
  EXPECT_EQ(WithValidUtf8("\xF4\x90\x80\x80"), r + r + r + r);  // above U+10FFFF
  EXPECT_EQ(WithValidUtf8("\xE2\x82\xAC\x80"), "\xE2\x82\xAC" + r);
}

TEST(RowText, TimestampsOfAllWriters) {
  const absl::Time at = absl::FromCivil(absl::CivilSecond(2026, 11, 23, 7, 28, 15), absl::UTCTimeZone());
  EXPECT_EQ(ParseTimestamp("2026-11-23 07:28:15"), at);
  EXPECT_EQ(ParseTimestamp("2026-11-23 07:28:15.042"), at + absl::Milliseconds(42));
  EXPECT_EQ(ParseTimestamp("2026-11-23T07:28:15Z"), at);
  EXPECT_EQ(ParseTimestamp("2026-11-23T07:28:15.5Z"), at + absl::Milliseconds(500));
  EXPECT_EQ(ParseTimestamp("1795419000"), absl::FromUnixSeconds(1795419000));
  for (const std::string_view text :
       {"", "yesterday", "2026-11-23", "2026-11-23x07:28:15", "2026-1a-23 07:28:15", "12x"}) {
    EXPECT_EQ(ParseTimestamp(text), absl::UnixEpoch()) << text;
  }
}

TEST(RowText, EveryDayIsTheCalendars) {
  for (absl::CivilDay day(1899, 12, 30); day.year() < 2101; ++day) {
    const absl::Time at = absl::FromCivil(absl::CivilSecond(day) + 86399, absl::UTCTimeZone());
    ASSERT_EQ(ParseTimestamp(FormatTimestamp(at)), at) << day;
  }
  const auto civil = [](int month, int day, int hour) {
    return absl::FromCivil(absl::CivilSecond(2026, month, day, hour, 0, 0), absl::UTCTimeZone());
  };
  // What is beyond the calendar is taken on, as it has always been.
  EXPECT_EQ(ParseTimestamp("2026-02-31 25:00:00"), civil(2, 31, 25));
  EXPECT_EQ(ParseTimestamp("2026-13-01 00:00:00"), civil(13, 1, 0));
  EXPECT_EQ(ParseTimestamp("2026-00-00 00:00:00"), civil(0, 0, 0));
  EXPECT_EQ(ParseTimestamp("2026-11-23 07:28:15.12345"),
            ParseTimestamp("2026-11-23 07:28:15") + absl::Milliseconds(123));
}

TEST(RowText, WhatIsWrittenIsReadBack) {
  const absl::Time at = absl::FromUnixMillis(1795419000987);
  EXPECT_EQ(ParseTimestamp(FormatTimestamp(at)), at);
}

TEST(RowText, BoundsHoldWithAndWithoutFraction) {
  const absl::Time at = absl::FromUnixSeconds(1795419000);
  const std::string plain = FormatTimestamp(at).substr(0, 19);
  EXPECT_LE(TimestampLowerBound(at), plain);
  EXPECT_LE(TimestampLowerBound(at), FormatTimestamp(at));
  EXPECT_GT(TimestampLowerBound(at), FormatTimestamp(at - absl::Milliseconds(1)));
  EXPECT_GE(TimestampUpperBound(at), plain);
  EXPECT_GE(TimestampUpperBound(at), FormatTimestamp(at));
  EXPECT_LT(TimestampUpperBound(at), FormatTimestamp(at + absl::Milliseconds(1)));
  EXPECT_EQ(TimestampLowerBound(absl::InfinitePast()), "0000-01-01 00:00:00");
  EXPECT_EQ(TimestampUpperBound(absl::InfiniteFuture()), "9999-12-31 23:59:59.999");
}

}  // namespace
}  // namespace supervisor
