#include "daemon/service/environment_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

// How others read the same text. kSame: as we do. kOther: otherwise, or not at all; the row says why ours is right.
enum class Reads { kSame, kOther };

struct Row {
  std::string text;      // of the file; the variable is V
  std::string expected;  // its value
  Reads sh;              // sh(1): asked while the test runs
  Reads systemd;         // EnvironmentFile=, parse_env_file() in systemd's src/basic/env-file.c (252)
  Reads dotenv;          // dotenv for node (16)
  const char* remark = "";
};

const std::vector<Row>& Table() {
  constexpr Reads kSame = Reads::kSame;
  constexpr Reads kOther = Reads::kOther;
  static const std::vector<Row> table = {
      // Unquoted.
      {"V=value\n", "value", kSame, kSame, kSame},
      {"V=value", "value", kSame, kSame, kSame, "no line end at the end"},
      {"V=\n", "", kSame, kSame, kSame},
      {"V=a=b\n", "a=b", kSame, kSame, kSame},
      {"V=value   \n", "value", kSame, kSame, kSame},
      {"V=value # comment\n", "value", kSame, kOther, kSame, "systemd has no comments behind a value"},
      {"V=a#b\n", "a#b", kSame, kSame, kOther, "a colour, a fragment, a password: dotenv cuts it"},
      {"V=#fff\n", "#fff", kSame, kSame, kOther},
      {"V= # comment\n", "", kSame, kOther, kSame},
      {"V=two words\n", "two words", kOther, kSame, kSame, "sh would run `words`"},
      {"V = spaced\n", "spaced", kOther, kOther, kSame, "sh would run V"},
      {"V=a\\ b\n", "a b", kSame, kSame, kOther, "dotenv knows no backslash"},
      {"V=end\\ \n", "end ", kSame, kSame, kOther},
      {"V=C:\\\\data\n", "C:\\data", kSame, kSame, kOther},
      {"V=a\\#b \\# c\n", "a#b # c", kOther, kSame, kOther},
      {"V=one\\\ntwo\n", "onetwo", kSame, kSame, kOther, "a continuation line"},
      {"V=one \\\n  two\n", "one   two", kOther, kSame, kOther},
      {"V={\"a\":\"b\"}\n", "{\"a\":\"b\"}", kOther, kSame, kSame, "JSON stays whole"},
      {"V=it's\n", "it's", kOther, kSame, kSame},
      {"V=$HOME\n", "$HOME", kOther, kSame, kSame, "nothing is expanded"},
      {"V=`id`\n", "`id`", kOther, kSame, kSame},
      {"V=\xc3\xa4\n", "\xc3\xa4", kSame, kSame, kSame},
      // Double quotes: a backslash escapes only " \ $ ` and a line end.
      {"V=\"C:\\data\\new\"\n", "C:\\data\\new", kSame, kSame, kOther, "dotenv makes \\n a line end"},
      {"V=\"line1\\nline2\"\n", "line1\\nline2", kOther, kSame, kOther, "sh too; its echo might not"},
      {"V=\"a\\\"b\"\n", "a\"b", kSame, kSame, kOther},
      {"V=\"a\\\\b\"\n", "a\\b", kSame, kSame, kOther},
      {"V=\"a\\$b\"\n", "a$b", kSame, kSame, kOther},
      {"V=\"a\\`b\"\n", "a`b", kSame, kSame, kOther},
      {"V=\"a\\'b\\/c\\x\"\n", "a\\'b\\/c\\x", kSame, kSame, kOther},
      {"V=\"\\\\n\"\n", "\\n", kSame, kSame, kOther},
      {"V=\"a\\\nb\"\n", "ab", kSame, kSame, kOther},
      {"V=\"  kept  \"\n", "  kept  ", kSame, kSame, kSame},
      {"V=\"a # b\"\n", "a # b", kSame, kSame, kSame},
      {"V=\"it's\"\n", "it's", kSame, kSame, kSame},
      {"V=\"one\ntwo\n\"\n", "one\ntwo\n", kSame, kSame, kSame, "as a PEM file"},
      {"V=\"\"\n", "", kSame, kSame, kSame},
      {"V=\"value\" # comment\n", "value", kSame, kOther, kSame},
      {"V=\"value\"  \n", "value", kSame, kSame, kSame},
      {"V=\"$HOME\"\n", "$HOME", kOther, kSame, kSame, "nothing is expanded"},
      // Single quotes: everything is literal.
      {"V='a\\b\\n$HOME\"`'\n", "a\\b\\n$HOME\"`", kSame, kSame, kSame},
      {"V='one\ntwo'\n", "one\ntwo", kSame, kSame, kSame},
      {"V='#x' #y\n", "#x", kSame, kOther, kSame},
      {"V=''\n", "", kSame, kSame, kSame},
      // Joined.
      {"V=\"a\"'b'\n", "ab", kSame, kSame, kOther},
      {"V='a'b\n", "ab", kSame, kSame, kOther},
      {"V=\"a b\"c\\ d\n", "a bc d", kSame, kSame, kOther},
      {"V='it'\\''s'\n", "it's", kSame, kSame, kOther, "how sh itself quotes"},
      {"V=\"a\"#b\n", "a#b", kSame, kSame, kOther},
      {"V=\"a\"\\\n\"b\"\n", "ab", kSame, kSame, kOther},
      // Around it.
      {"export V=1\n", "1", kSame, kOther, kSame},
      {"export\tV=1\n", "1", kSame, kOther, kSame},
      {"  export   V=1\n", "1", kSame, kOther, kSame},
      {"\n# c\n  # d\nV=1\n\n", "1", kSame, kSame, kSame},
      {"; c\nV=1\n", "1", kOther, kSame, kOther},
      {"V=1\nV=2\n", "2", kSame, kSame, kSame},
      {"# c\\\nV=1\n", "1", kSame, kOther, kSame, "a comment ends with its line"},
      {"\xef\xbb\xbfV=1\n", "1", kOther, kOther, kSame, "a byte order mark"},
      {"V=1\r\nW=2\r\n", "1", kOther, kSame, kSame, "line ends of Windows"},
      {"V=\"one\r\ntwo\"\r\n", "one\ntwo", kOther, kOther, kSame},
  };
  return table;
}

std::string ValueOf(const Environment& environment) {
  for (const auto& [name, value] : environment) {
    if (name == "V") {
      return value;
    }
  }
  return "(not set)";
}

TEST(EnvironmentFile, IsReadAsTheTableSays) {
  for (const Row& row : Table()) {
    const absl::StatusOr<Environment> parsed = ParseEnvironmentFile(row.text);
    ASSERT_TRUE(parsed.ok()) << row.text << parsed.status();
    EXPECT_EQ(ValueOf(*parsed), row.expected) << row.text << row.remark;
  }
}

// The column `sh`, by the shell of this machine.
TEST(EnvironmentFile, AShellReadsItAsTheTableSays) {
  const std::filesystem::path directory =
      std::filesystem::path(testing::TempDir()) / ("env-" + std::to_string(getpid()));
  std::filesystem::create_directory(directory);
  for (const Row& row : Table()) {
    std::ofstream(directory / "file") << row.text;
    std::ofstream(directory / "script") << "unset V; . " << (directory / "file").string()
                                        << " 2>/dev/null\nprintf %s. \"$V\"\n";
    // style-ok(shell): it is what is tested against. NOLINTNEXTLINE(cert-env33-c)
    FILE* pipe = popen(("HOME=/home/x /bin/sh " + (directory / "script").string() + " 2>/dev/null").c_str(), "r");
    ASSERT_NE(pipe, nullptr);
    std::array<char, 256> text{};
    const size_t size = fread(text.data(), 1, text.size(), pipe);
    pclose(pipe);
    const std::string said(text.data(), size);
    const bool is_same = said == row.expected + ".";
    if (row.sh == Reads::kSame) {
      EXPECT_EQ(said, row.expected + ".") << row.text;
    } else if (row.text.find("\\n") == std::string::npos) {
      EXPECT_FALSE(is_same) << row.text << " is read by sh as by us: the table is wrong";
    }
  }
  std::filesystem::remove_all(directory);
}

TEST(EnvironmentFile, SeveralLinesGiveSeveralVariables) {
  const absl::StatusOr<Environment> parsed = ParseEnvironmentFile(
      "# a comment\n"
      "PLAIN=value\n"
      "KEY=\"-----BEGIN KEY-----\nabc\n-----END KEY-----\n\"\n"
      "  SPACED =  around  \n"
      "export LAST=no newline");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_THAT(*parsed, ElementsAre(Pair("PLAIN", "value"), Pair("KEY", "-----BEGIN KEY-----\nabc\n-----END KEY-----\n"),
                                   Pair("SPACED", "around"), Pair("LAST", "no newline")));
}

TEST(EnvironmentFile, TheErrorNamesTheLine) {
  using std::string_literals::operator""s;
  for (const auto& [text, message] : std::vector<std::pair<std::string, std::string>>{
           {"A=1\nnonsense\n", "line 2: not of the form NAME=value"},
           {"1A=x\n", "line 1: \"1A\" can't be the name of a variable"},
           {"A=1\n\napp.name=x\n", "line 3: \"app.name\" can't be the name of a variable"},
           {"a-b=x\n", "line 1: \"a-b\" can't be the name"},
           {"A B=x\n", "line 1: \"A B\" can't be the name"},
           {"export a.b=x\n", "line 1: \"a.b\" can't be the name"},
           {"\xc3\xa4=x\n", "can't be the name"},
           {"=x\n", "line 1: not of the form NAME=value: the name is missing"},
           {"export A\n", "line 1: not of the form NAME=value"},
           {"A='open\n", "line 1: the closing quote is missing"},
           {"A=1\nB=\"one\ntwo\n", "line 2: the closing quote is missing"},
           {"A='x' y\n", "line 1: text after the closing quote"},
           {"A=\"one\ntwo\" y\n", "line 2: text after the closing quote"},
           {"A=1\nB=a\0b\n"s, "line 2: holds a NUL byte"},
           {"\xff\xfe"s + "A\0=\0"s, "line 1: holds a NUL byte"}}) {
    const absl::StatusOr<Environment> parsed = ParseEnvironmentFile(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr(message)) << text;
  }
}

TEST(EnvironmentFile, TheErrorHoldsNoValue) {
  const absl::StatusOr<Environment> parsed = ParseEnvironmentFile("A='s3cret' s3cret\n");
  ASSERT_FALSE(parsed.ok());
  EXPECT_THAT(std::string(parsed.status().message()), testing::Not(HasSubstr("s3cret")));
}

}  // namespace
}  // namespace supervisor
