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

TEST(TerminalTextTest, KeepsLinesTabsAndCharactersAndWritesOutTheRest) {
  TerminalText text;
  EXPECT_EQ(text.Feed("Käse\t日本\n\x1b[2J\r\x07\xFF"), "Käse\t日本\n\\x1b[2J\\r\\x07\\xff");
  EXPECT_EQ(text.End(), "");
}

TEST(TerminalTextTest, ItDoesNotMatterWhereThePiecesEnd) {
  const std::string bytes =
      "Käse 日本 \xF0\x9F\x98\x80 \xC2\x9B"
      "31m \x1b]0;title\x07 \xE2\x80\xAE \xE6\x97 \xED\xA0\x80 \xC2\n\xE6\x97";
  TerminalText whole;
  const std::string first = whole.Feed(bytes);
  const std::string expected = first + whole.End();
  EXPECT_EQ(
      expected,
      "Käse 日本 \xF0\x9F\x98\x80 \\x9b31m \\x1b]0;title\\x07 \\u202e \\xe6\\x97 \\xed\\xa0\\x80 \\xc2\n\\xe6\\x97");
  for (size_t size = 1; size < bytes.size(); ++size) {
    TerminalText pieces;
    std::string out;
    for (size_t at = 0; at < bytes.size(); at += size) {
      out += pieces.Feed(std::string_view(bytes).substr(at, size));
    }
    out += pieces.End();
    EXPECT_EQ(out, expected) << "in pieces of " << size;
  }
}

TEST(DisplayWidthTest, CountsColumns) {
  EXPECT_EQ(DisplayWidth(""), 0U);
  EXPECT_EQ(DisplayWidth("plain"), 5U);
  EXPECT_EQ(DisplayWidth("Käse"), 4U);
  EXPECT_EQ(DisplayWidth("Ka\xCC\x88se"), 4U);  // combining diaeresis
  EXPECT_EQ(DisplayWidth("日本"), 4U);
  EXPECT_EQ(DisplayWidth("\xF0\x9F\x98\x80"), 2U);
}

TEST(CutToWidthTest, CutsByWhatIsSeen) {
  EXPECT_EQ(CutToWidth("abc", 0), "abc");
  EXPECT_EQ(CutToWidth("abc", 3), "abc");
  EXPECT_EQ(CutToWidth("abcd", 3), "ab…");
  EXPECT_EQ(CutToWidth("äöüß", 3), "äö…");
  EXPECT_EQ(CutToWidth("日本語", 6), "日本語");
  EXPECT_EQ(CutToWidth("日本語", 5), "日本…");
  EXPECT_EQ(CutToWidth("日本語", 4), "日…");
  EXPECT_EQ(CutToWidth("e\u0301e\u0301e\u0301", 2), "e\u0301…");
  EXPECT_EQ(CutToWidth("", 3), "");
  EXPECT_EQ(CutToWidth("abc", 1), "…");
}

TEST(CutToWidthTest, ColoursTakeNoColumnAndAreClosed) {
  EXPECT_EQ(CutToWidth("\x1b[31mabc\x1b[0m", 3), "\x1b[31mabc\x1b[0m");
  EXPECT_EQ(CutToWidth("\x1b[31mabcd\x1b[0m", 3), "\x1b[31mab…\x1b[0m");
  EXPECT_EQ(CutToWidth("\x1b[31ma\x1b[0mbcd", 3), "\x1b[31ma\x1b[0mb…");
}

}  // namespace
}  // namespace supervisor
