#include "daemon/service/environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "common/atomic_file.h"

namespace supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(EnvironmentFile, TheFormsOfALine) {
  const absl::StatusOr<Environment> parsed = ParseEnvironmentFile(
      "# a comment\n"
      "; another\n"
      "\n"
      "PLAIN=value\n"
      "  SPACED =  around  \n"
      "export EXPORTED=1\n"
      "SINGLE='as \"it\" is $HOME'\n"
      "DOUBLE=\"with \\\"quotes\\\"\"\n"
      "EQUALS=a=b\n"
      "EMPTY=\n"
      "LAST=no newline");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_THAT(*parsed, ElementsAre(Pair("PLAIN", "value"), Pair("SPACED", "around"), Pair("EXPORTED", "1"),
                                   Pair("SINGLE", "as \"it\" is $HOME"), Pair("DOUBLE", "with \"quotes\""),
                                   Pair("EQUALS", "a=b"), Pair("EMPTY", ""), Pair("LAST", "no newline")));
}

TEST(EnvironmentFile, TheErrorNamesTheLine) {
  for (const auto& [text, message] :
       std::vector<std::pair<std::string, std::string>>{{"A=1\nnonsense\n", "line 2: not of the form NAME=value"},
                                                        {"1A=x\n", "line 1"},
                                                        {"=x\n", "line 1"},
                                                        {"A='open\n", "line 1: the closing quote is missing"},
                                                        {"A='x' y\n", "line 1: text after the closing quote"}}) {
    const absl::StatusOr<Environment> parsed = ParseEnvironmentFile(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr(message));
  }
}

TEST(ResolveIdentity, LaterSourcesWin) {
  ServiceConfig config;
  const std::string path = testing::TempDir() + "/later_sources_win.env";
  ASSERT_TRUE(WriteFileAtomically(path, "A=file\nB=file\n", 0600).ok());
  config.environment_file = path;
  config.environment = {{"B", "configured"}};
  const absl::StatusOr<ServiceIdentity> identity = ResolveIdentity(config);
  unlink(path.c_str());
  ASSERT_TRUE(identity.ok()) << identity.status();
  EXPECT_THAT(identity->variables, ElementsAre(Pair("A", "file"), Pair("B", "configured")));
  EXPECT_FALSE(identity->credentials.has_value());
}

TEST(ResolveIdentity, AUserThatDoesNotExistIsNamed) {
  ServiceConfig config;
  config.user = "no-such-user-here";
  const absl::StatusOr<ServiceIdentity> identity = ResolveIdentity(config);
  ASSERT_FALSE(identity.ok());
  EXPECT_EQ(std::string(identity.status().message()), "user no-such-user-here: no such user");
}

TEST(ResolveIdentity, AMissingEnvironmentFileIsNamed) {
  ServiceConfig config;
  config.environment_file = "/no/such/file.env";
  const absl::StatusOr<ServiceIdentity> identity = ResolveIdentity(config);
  ASSERT_FALSE(identity.ok());
  EXPECT_THAT(std::string(identity.status().message()),
              HasSubstr("environment_file /no/such/file.env: No such file or directory"));
}

}  // namespace
}  // namespace supervisor
