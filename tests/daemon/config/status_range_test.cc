#include "daemon/config/status_range.h"

#include <gtest/gtest.h>

namespace supervisor {
namespace {

TEST(StatusRange, IsAClassOrTwoEnds) {
  EXPECT_EQ(ParseStatusRange("2xx"), (StatusRange{200, 299}));
  EXPECT_EQ(ParseStatusRange("5XX"), (StatusRange{500, 599}));
  EXPECT_EQ(ParseStatusRange("1xX"), (StatusRange{100, 199}));
  EXPECT_EQ(ParseStatusRange("200-204"), (StatusRange{200, 204}));
  EXPECT_EQ(ParseStatusRange("404-404"), (StatusRange{404, 404}));
  for (const char* text : {"", "200", "0xx", "6xx", "2x", "2xxx", "xxx", " 2xx", "2xx ", "-", "200-", "-200", "300-200",
                           "99-200", "200-600", "200-2xx", "+200-300", "200-300-400", "20x"}) {
    EXPECT_EQ(ParseStatusRange(text), std::nullopt) << text;
  }
}

TEST(StatusRange, HoldsItsEnds) {
  const std::vector<StatusRange> ranges = {{204, 204}, {300, 399}};
  for (const int status : {204, 300, 399}) {
    EXPECT_TRUE(IsWithin(ranges, status)) << status;
  }
  for (const int status : {0, 200, 203, 205, 299, 400}) {
    EXPECT_FALSE(IsWithin(ranges, status)) << status;
  }
  EXPECT_FALSE(IsWithin({}, 200));
}

TEST(StatusRange, IsWrittenAsItWasGiven) {
  EXPECT_EQ(StatusRangesText({{200, 200}, {200, 299}, {401, 403}}), "200, 2xx, 401-403");
}

}  // namespace
}  // namespace supervisor
