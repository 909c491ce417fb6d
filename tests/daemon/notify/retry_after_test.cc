#include "daemon/notify/retry_after.h"

#include <gtest/gtest.h>

namespace supervisor {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(784111777);  // Sun, 06 Nov 1994 08:49:37 GMT

TEST(RetryAfter, IsReadInEachForm) {
  EXPECT_EQ(ParseRetryAfter("120", "", kNow), absl::Seconds(120));
  EXPECT_EQ(ParseRetryAfter(" 0 ", "", kNow), absl::ZeroDuration());
  EXPECT_EQ(ParseRetryAfter("Sun, 06 Nov 1994 08:50:07 GMT", "", kNow), absl::Seconds(30));
  EXPECT_EQ(ParseRetryAfter("Sunday, 06-Nov-94 08:50:07 GMT", "", kNow), absl::Seconds(30));
  EXPECT_EQ(ParseRetryAfter("Sun Nov  6 08:50:07 1994", "", kNow), absl::Seconds(30));
}

TEST(RetryAfter, IsNeverInThePast) {
  EXPECT_EQ(ParseRetryAfter("Sun, 06 Nov 1994 08:00:00 GMT", "", kNow), absl::ZeroDuration());
}

TEST(RetryAfter, GoesByTheServersClock) {
  EXPECT_EQ(ParseRetryAfter("Sun, 06 Nov 1994 09:00:00 GMT", "Sun, 06 Nov 1994 08:59:50 GMT", kNow), absl::Seconds(10));
  EXPECT_EQ(ParseRetryAfter("Sun, 06 Nov 1994 08:50:07 GMT", "no date", kNow), absl::Seconds(30));
}

TEST(RetryAfter, OtherTextsSayNothing) {
  for (const char* text : {"", " ", "soon", "-1", "1.5", "12 s", "Sun, 06 Nov 1994"}) {
    EXPECT_EQ(ParseRetryAfter(text, "", kNow), std::nullopt) << text;
  }
  EXPECT_EQ(ParseRetryAfter("99999999999999999999999", "", kNow), absl::InfiniteDuration());
}

}  // namespace
}  // namespace supervisor
