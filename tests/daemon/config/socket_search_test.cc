#include "daemon/config/socket_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "tests/daemon/config/config_files.h"

namespace supervisor {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Outcome = SocketSearch::Outcome;

std::optional<std::string> NoVariables(const std::string&) { return std::nullopt; }

SocketSearch SearchIn(const ConfigFiles& files, const std::string& text) {
  return SearchSocket(files.Write("supervisor_config.json", text), NoVariables);
}

TEST(SearchSocket, WhatIsPlainlyNamedIsCertainWhateverElseIsWrong) {
  const ConfigFiles files;
  const SocketSearch search = SearchIn(files, R"({"global": {"socket": "/run/x.sock", "nonsense": 1}, "services": 3})");
  EXPECT_EQ(search.outcome, Outcome::kNamed);
  EXPECT_THAT(search.sockets, ElementsAre("/run/x.sock"));
  EXPECT_THAT(SearchIn(files, R"({"global": {"socket": "x.sock"}})").sockets, ElementsAre(files.PathOf("x.sock")));
}

TEST(SearchSocket, AFileThatNamesNoneMeansTheDefault) {
  const ConfigFiles files;
  for (const char* text : {"{}", R"({"global": {}})", R"({"services": {"socket": {"socket": "/x"}}})"}) {
    EXPECT_EQ(SearchIn(files, text).outcome, Outcome::kNotNamed) << text;
  }
}

TEST(SearchSocket, WhatIsNoPathIsUnusableAndSaysWhere) {
  const ConfigFiles files;
  for (const char* text : {R"({"global": {"socket": 1}})", R"({"global": {"socket": ""}})", R"({"global": []})", "[]",
                           "null", R"({"global": {"socket": "${SUPERVISOR_TEST_NONE}/x"}})"}) {
    const SocketSearch search = SearchIn(files, text);
    EXPECT_EQ(search.outcome, Outcome::kUnusable) << text;
    EXPECT_THAT(search.trouble, HasSubstr("supervisor_config.json:1:")) << text;
  }
}

TEST(SearchSocket, InABrokenFileItIsGuessed) {
  const ConfigFiles files;
  for (const char* text : {
           R"({"global": {"socket": "/run/x.sock")",                            // cut off
           R"({"global": {"socket": "/run/x.sock",}})",                         // a comma too many
           R"({"global": {"log_file": "/x" "socket": "/run/x.sock"}})",         // a comma too few
           R"({"global": {"socket": "/run/x.sock"}, "services": {,}})",         //
           R"({"global": {"socket": "/run/x.sock"}} // mine)",                  //
           "{\"global\": {\"log_file\": \"/x,\n\"socket\": \"/run/x.sock\"}}",  // a quote too few
           R"({"global": {"socket": "/run/x.sock"}, "global": {}})",            // a key twice
           R"({"services": {"a": {"command": "x"}, "global": {"socket": "\/run\/x.sock"}})",
       }) {
    const SocketSearch search = SearchIn(files, text);
    EXPECT_EQ(search.outcome, Outcome::kGuessed) << text;
    EXPECT_THAT(search.sockets, ElementsAre("/run/x.sock")) << text;
    EXPECT_THAT(search.trouble, HasSubstr("supervisor_config.json:")) << text;
  }
}

TEST(SearchSocket, ABrokenFileMayNotEvenHoldAGuess) {
  const ConfigFiles files;
  for (const char* text : {"", "{ nonsense", R"({"global": {"socket": "/run/x.so)", R"({"global": {"socket": )",
                           R"({"global": {"socket: "/run/x.sock"}})", "\xff\xfe"}) {
    const SocketSearch search = SearchIn(files, text);
    EXPECT_EQ(search.outcome, Outcome::kGuessed) << text;
    EXPECT_THAT(search.sockets, IsEmpty()) << text;
  }
}

TEST(SearchSocket, TellsNoFileFromOneThatCannotBeRead) {
  const ConfigFiles files;
  EXPECT_EQ(SearchSocket(files.PathOf("none.json"), NoVariables).outcome, Outcome::kNoFile);
  EXPECT_EQ(SearchSocket("", NoVariables).outcome, Outcome::kNoFile);
  const std::string file = files.Write("a/x.json", "{}");
  EXPECT_EQ(SearchSocket(file + "/y.json", NoVariables).outcome, Outcome::kNoFile);
  EXPECT_EQ(SearchSocket(files.PathOf("a"), NoVariables).outcome, Outcome::kUnreadable) << "a directory";
  if (geteuid() != 0) {
    chmod(file.c_str(), 0);
    const SocketSearch search = SearchSocket(file, NoVariables);
    EXPECT_EQ(search.outcome, Outcome::kUnreadable);
    EXPECT_THAT(search.trouble, HasSubstr("EACCES"));
  }
}

TEST(GuessSockets, ThoseInGlobalComeFirstAndEachOnce) {
  EXPECT_THAT(GuessSockets(R"({"services": {"a": {"environment": {"socket": "/a"}}},
                               "global": {"socket": "/b", "web": {"socket": "/c"}, "socket": "/b"}, "socket": "/a"})"),
              ElementsAre("/b", "/a", "/c"));
  EXPECT_THAT(GuessSockets(R"({"global": {"unix_socket": "/x", "socket_mode": "0660", "name": "socket"}})"), IsEmpty());
}

}  // namespace
}  // namespace supervisor
