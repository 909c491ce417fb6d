#include "ctl/render/utf8.h"

#include <gtest/gtest.h>

namespace supervisor {
namespace {

TEST(Utf8Test, KeepsWhatIsWellFormed) {
  for (const std::string text : {"", "plain", "Käse", "日本語", "\xF0\x9F\x98\x80", "\xEF\xBF\xBD", "a\x01\x7f"}) {
    EXPECT_TRUE(IsValidUtf8(text));
    EXPECT_EQ(ToValidUtf8(text), text);
  }
}

TEST(Utf8Test, ReplacesEachMalformedSequence) {
  const std::string replacement = "\xEF\xBF\xBD";
  EXPECT_EQ(ToValidUtf8("a\xFF"
                        "b"),
            "a" + replacement + "b");
  EXPECT_EQ(ToValidUtf8("\x80\x80"), replacement + replacement);  // stray continuations
  EXPECT_EQ(ToValidUtf8("\xC0\xAF"), replacement + replacement);  // overlong "/"
  EXPECT_EQ(ToValidUtf8("\xE0\x80\x80"), replacement + replacement + replacement);
  EXPECT_EQ(ToValidUtf8("\xED\xA0\x80"), replacement + replacement + replacement);  // a surrogate
  EXPECT_EQ(ToValidUtf8("\xF4\x90\x80\x80"), replacement + replacement + replacement + replacement);
  EXPECT_EQ(ToValidUtf8("\xE6\x97"), replacement);         // cut off at the end
  EXPECT_EQ(ToValidUtf8("\xE6\x97x"), replacement + "x");  // cut off within
}

TEST(Utf8Test, RandomBytesBecomeValid) {
  uint32_t state = 1;
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    for (int i = 0; i < 40; ++i) {
      state = state * 1664525U + 1013904223U;
      bytes += static_cast<char>(state >> 24U);
    }
    EXPECT_TRUE(IsValidUtf8(ToValidUtf8(bytes)));
    EXPECT_TRUE(IsValidUtf8(EscapeForTerminal(bytes)));
  }
}

TEST(EscapeForTerminalTest, WritesOutWhatATerminalWouldObey) {
  EXPECT_EQ(EscapeForTerminal("\x1b[31mred"), "\\x1b[31mred");
  EXPECT_EQ(EscapeForTerminal("two\nlines\tand\r"), "two\\nlines\\tand\\r");
  EXPECT_EQ(EscapeForTerminal("\xC2\x9B"
                              "31m"),
            "\\x9b31m");  // C1's own escape
  EXPECT_EQ(EscapeForTerminal("a\xE2\x80\xAE"
                              "b"),
            "a\\u202eb");  // right-to-left override
  EXPECT_EQ(EscapeForTerminal("\xFF\x00"
                              "x"),
            "\\xff");  // literal ends at NUL
  EXPECT_EQ(EscapeForTerminal(std::string_view("\0x", 2)), "\\x00x");
  EXPECT_EQ(EscapeForTerminal("Käse 日本"), "Käse 日本");
}

TEST(DisplayWidthTest, CountsColumns) {
  EXPECT_EQ(DisplayWidth(""), 0U);
  EXPECT_EQ(DisplayWidth("plain"), 5U);
  EXPECT_EQ(DisplayWidth("Käse"), 4U);
  EXPECT_EQ(DisplayWidth("Ka\xCC\x88se"), 4U);  // combining diaeresis
  EXPECT_EQ(DisplayWidth("日本"), 4U);
  EXPECT_EQ(DisplayWidth("\xF0\x9F\x98\x80"), 2U);
}

}  // namespace
}  // namespace supervisor
