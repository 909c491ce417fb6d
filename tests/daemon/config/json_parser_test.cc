#include "daemon/config/json_parser.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "daemon/config/message_text.h"

namespace supervisor {
namespace {

// "LINE:COLUMN path: message" of each problem.
std::string Problems(std::string_view text, const JsonLimits& limits = {}) {
  const ParsedJson parsed = ParseJson(text, limits);
  const LineIndex lines(text);
  std::string out;
  for (const JsonProblem& problem : parsed.problems) {
    const TextPosition at = lines.At(problem.offset);
    out += out.empty() ? "" : "\n";
    out += fmt::format("{}:{} {}: {}", at.line, at.column, problem.path, problem.message);
  }
  return out;
}

TEST(JsonParser, ValuesKnowWhereTheyBegin) {
  const std::string text = "{\n  \"a\" : [ 1, -2.5e1 ,\"x\\ny\", {\"b\": null}],\n\t\"c\":true, \"d\": {}, \"e\":[]}\n";
  const ParsedJson parsed = ParseJson(text);
  ASSERT_TRUE(parsed.root);
  ASSERT_TRUE(parsed.problems.empty());
  const auto check = [&text](const JsonValue& value, std::string_view begins) {
    EXPECT_EQ(text.substr(value.offset, begins.size()), begins);
  };
  const JsonMember* a = parsed.root->Find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(text.substr(a->key_offset, 3), "\"a\"");
  check(a->value, "[ 1,");
  check(a->value.children[0].value, "1,");
  EXPECT_EQ(a->value.children[1].value.number, -25);
  EXPECT_EQ(a->value.children[1].value.text, "-2.5e1");
  check(a->value.children[1].value, "-2.5e1 ,");
  EXPECT_EQ(a->value.children[2].value.text, "x\ny");
  check(a->value.children[2].value, "\"x");
  check(a->value.children[3].value, "{\"b\"");
  check(a->value.children[3].value.Find("b")->value, "null");
  check(parsed.root->Find("c")->value, "true");
  check(parsed.root->Find("d")->value, "{}");
  check(parsed.root->Find("e")->value, "[]");
}

TEST(JsonParser, TakesWhatRfc8259Takes) {
  for (const char* text : {"{}", "[]", " 1 ", "-0", "1e5", "1E-2", "0.5", "\"\"", "\"\\u0000\"", "\"\\ud83d\\ude00\"",
                           "null", "\"\x7f\"", "\"\xf0\x9f\x98\x80\"", "\t\r\n[1]\r\n"}) {
    EXPECT_TRUE(ParseJson(text).root.has_value()) << text;
  }
}

TEST(JsonParser, SaysWhatIsWrong) {
  EXPECT_EQ(Problems(""), "1:1 : the file is empty (expected a JSON object: {...})");
  EXPECT_EQ(Problems(" \n "), "2:2 : the file is empty (expected a JSON object: {...})");
  EXPECT_EQ(Problems("{\"a\": {\"b\": 1,\n}}"), "1:14 a: a trailing comma before \"}\" (JSON allows none: remove it)");
  EXPECT_EQ(Problems("{\"a\": [1,\n2 , ]}"), "2:3 a: a trailing comma before \"]\" (JSON allows none: remove it)");
  EXPECT_EQ(Problems("{\"a\": 1 // one\n}"), "1:9 : a comment (JSON has none: remove it)");
  EXPECT_EQ(Problems("# x\n{}"), "1:1 : a comment (JSON has none: remove it)");
  EXPECT_EQ(Problems("{'a': 1}"), "1:2 : a single quote (expected double quotes: \"...\")");
  EXPECT_EQ(Problems("{\"a\": \xe2\x80\x9cx\xe2\x80\x9d}"),
            "1:7 : a typographic quote (expected straight double quotes: \"...\")");
  EXPECT_EQ(Problems("{\"a\": True}"), "1:7 : true, false and null are written in lower case (did you mean true?)");
  EXPECT_EQ(Problems("{\"a\": yes}"), "1:7 : \"yes\" is no JSON value (expected true or false)");
  EXPECT_EQ(Problems("{\"a\": NaN}"), "1:7 : is no finite number (expected digits)");
  EXPECT_EQ(Problems("{\"a\": -Infinity}"), "1:7 : is no finite number (expected digits)");
  EXPECT_EQ(Problems("{\"a\": 1e400}"), "1:7 : a number that is too big");
  EXPECT_EQ(Problems("{\"a\": 1.7976931348623159e308}"), "1:7 : a number that is too big or too small");
  EXPECT_EQ(Problems("{\"a\": .5}"),
            "1:7 : is no JSON number (expected digits, with a minus before them where it is negative: 0.5, -3)");
  EXPECT_EQ(Problems("{\"umask\": 022}"),
            "1:11 : a number with a leading zero (remove it, or put an octal mode into quotes: \"022\")");
  EXPECT_EQ(Problems("{\"a\": 1.}"), "1:9 : digits are missing after the dot of a number");
  EXPECT_EQ(Problems("{\"a\": secret}"),
            "1:7 : is no JSON value (expected a string in double quotes, a number, true, false, null, {...} or [...])");
  EXPECT_EQ(Problems("{a: 1}"), "1:2 : a key without quotes (expected it in double quotes: \"key\")");
  EXPECT_EQ(Problems("{\"a\" 1}"), "1:6 : a colon is missing after the key \"a\"");
  EXPECT_EQ(Problems("{\"a\": , \"b\": 1}"), "1:7 : the value of \"a\" is missing");
  EXPECT_EQ(Problems("{\"a\": 1\n \"b\": 2}"), "2:2 : a comma is missing before this (expected \",\" or \"}\")");
  EXPECT_EQ(Problems("[1 2]"), "1:4 : a comma is missing before this (expected \",\" or \"]\")");
  EXPECT_EQ(Problems("{\"a\": [1}"), "1:9 a: \"}\" does not close the \"[\" at line 1, column 7 (expected \"]\")");
  EXPECT_EQ(Problems("{\"a\": \"x\ny\"}"),
            "1:9 : a line break inside a string (close the string with a quote, or write \\n)");
  EXPECT_EQ(Problems("{\"a\": \"x\ty\"}"), "1:9 : a control character (byte 0x09) inside a string (write \\t)");
  EXPECT_EQ(
      Problems("{\"a\": \"C:\\dir\"}"),
      "1:10 : an escape that JSON does not know (expected \\\" \\\\ \\/ \\b \\f \\n \\r \\t or \\uXXXX; a backslash "
      "itself is \\\\)");
  EXPECT_EQ(Problems("{\"a\": \"\\u12g4\"}"), "1:8 : \\u without four hexadecimal digits after it");
  EXPECT_EQ(Problems("{\"a\": \"\\ud83d\"}"),
            "1:8 : half of a surrogate pair (characters beyond U+FFFF need both: \\ud83d\\ude00)");
  EXPECT_EQ(Problems("{\"a\": \"\\udc00\"}"),
            "1:7 : half of a surrogate pair (characters beyond U+FFFF need both: \\ud83d\\ude00)");
  EXPECT_EQ(Problems("{\"a\": \"\xe4\"}"), "1:8 : is not UTF-8 (byte 0xe4; save the file as UTF-8)");
  EXPECT_EQ(Problems("{}}"), "1:3 : one \"}\" too many (the document has already ended)");
  EXPECT_EQ(Problems("{} {}"), "1:4 : text after the end of the document (expected nothing)");
  EXPECT_EQ(Problems("\xef\xbb\xbf{}"), "1:1 : begins with a byte order mark (save the file as UTF-8 without one)");
  EXPECT_EQ(Problems(std::string_view("{}\0{", 4)),
            "1:3 : a NUL byte (JSON is text: was the file cut off or overwritten?)");
}

TEST(JsonParser, AFileThatEndsTooEarlyNamesWhatIsOpen) {
  EXPECT_EQ(
      Problems("{\n  \"services\": {\n    \"web\": {\"port\": 1"),
      "3:22 services.web: the file ends too early: the \"{\" at line 3, column 12 is never closed (expected \"}\")");
  EXPECT_EQ(Problems("{\"a\": [1,"),
            "1:10 a: the file ends too early: the \"[\" at line 1, column 7 is never closed (expected \"]\")");
  EXPECT_EQ(Problems("{\"a\": \"x"),
            "1:9 : the file ends inside the string that begins at line 1, column 7 (expected a closing quote)");
  EXPECT_EQ(Problems("{\"a\""),
            "1:5 : the file ends too early: the \"{\" at line 1, column 1 is never closed (expected \"}\")");
  EXPECT_EQ(Problems("tru"), "1:4 : the file ends in the middle of a value");
}

TEST(JsonParser, EveryDuplicateKeyIsNamedWithBothPlaces) {
  EXPECT_EQ(Problems("{\"a\": {\"x\": 1,\n \"x\": 2, \"y\": [{\"z\": 1, \"z\": 1}]},\n\"a\": 1, \"\\u0061\": 2}"),
            "3:1 a: duplicate key (it already stands at line 1, column 2)\n"
            "3:9 a: duplicate key (it already stands at line 1, column 2)\n"
            "2:2 a.x: duplicate key (it already stands at line 1, column 8)\n"
            "2:25 a.y[0].z: duplicate key (it already stands at line 2, column 17)");
}

TEST(JsonParser, DepthAndSizeAreBounded) {
  EXPECT_EQ(Problems("[[[1]]]", {.depth = 2}), "1:3 [0]: is nested too deep (at most 2 levels)");
  EXPECT_EQ(Problems("[1,2,3]", {.depth = 9, .values = 3}), "1:6 : the file holds too many values (at most 3)");
  EXPECT_NE(Problems(std::string(1'000'000, '[')), "");
  EXPECT_NE(Problems(std::string(1'000'000, '{')), "");
  std::string many = "[";
  for (int i = 0; i < 600'000; ++i) {
    many += "0,";
  }
  EXPECT_NE(Problems(many + "0]"), "");
  EXPECT_TRUE(ParseJson("[" + std::string(1'000'000, '1') + "]").problems.size() == 1);
}

TEST(JsonParser, OffsetsInsideAStringCountItsEscapes) {
  const std::string text = R"(["a\n\u20ac\ud83d\ude00\u0041\"z"])";
  const std::string value = ParseJson(text).root->children[0].value.text;
  ASSERT_EQ(value,
            "a\n\xe2\x82\xac\xf0\x9f\x98\x80"
            "A\"z");
  EXPECT_EQ(OffsetInString(text, 1, 0), 2U);
  EXPECT_EQ(OffsetInString(text, 1, 1), 3U);
  EXPECT_EQ(OffsetInString(text, 1, 2), 5U);
  EXPECT_EQ(OffsetInString(text, 1, 5), 11U);
  EXPECT_EQ(OffsetInString(text, 1, 9), text.find("\\u0041"));
  EXPECT_EQ(OffsetInString(text, 1, 11), text.find('z'));
  EXPECT_EQ(OffsetInString(text, 1, 99), text.rfind('"'));
}

TEST(MessageText, QuotesWhatATerminalWouldObey) {
  EXPECT_EQ(Quote("a\"b\\"), R"("a\"b\\")");
  EXPECT_EQ(Quote("\x1b[31m\n"), R"("\x1b[31m\x0a")");
  EXPECT_EQ(Quote("\xc2\x9b"
                  "x\xff\xc3\xa4"),
            "\"\\xc2\\x9bx\\xff\xc3\xa4\"");
  EXPECT_EQ(Quote(std::string(200, 'x')), "\"" + std::string(80, 'x') + "...\"");
  EXPECT_EQ(KeyPath("services", "my app"), "services[\"my app\"]");
  EXPECT_EQ(KeyPath("", "a"), "a");
  EXPECT_EQ(KeyPath("", ""), "[\"\"]");
}

TEST(MessageText, ValidUtf8IsWhatUnicodeSays) {
  for (const char* text :
       {"", "abc", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(IsValidUtf8(text)) << text;
  }
  for (const char* text : {"\x80", "\xc0\x80", "\xc1\xbf", "\xc2", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
                           "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "a\xff"}) {
    EXPECT_FALSE(IsValidUtf8(text)) << text;
  }
}

}  // namespace
}  // namespace supervisor
