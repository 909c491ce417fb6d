#include "daemon/startup/check_warnings.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class CheckWarnings : public ::testing::Test {
 protected:
  CheckWarnings() {
    std::string path = (std::filesystem::temp_directory_path() / "warnings-XXXXXX").string();
    directory_ = mkdtemp(path.data());
    chmod(directory_.c_str(), 0755);
  }
  ~CheckWarnings() override { std::filesystem::remove_all(directory_); }

  std::string Write(const std::string& name, const std::string& text, mode_t mode = 0644) const {
    const std::string path = directory_ + "/" + name;
    std::ofstream(path) << text;
    chmod(path.c_str(), mode);
    return path;
  }

  // The warnings about these services, without the directory of the test.
  std::vector<std::string> Warnings(const std::string& services) const {
    const LoadedConfig loaded = LoadConfig(Write("c.json", R"({"services": {)" + services + "}}"));
    for (const ConfigError& error : loaded.errors) {
      ADD_FAILURE() << error.ToString();
    }
    std::vector<std::string> warnings;
    if (loaded.config) {
      for (const ConfigError& warning : FindWarnings(loaded)) {
        std::string text = warning.ToString();
        for (size_t at = text.find(directory_ + "/"); at != std::string::npos; at = text.find(directory_ + "/")) {
          text.erase(at, directory_.size() + 1);
        }
        warnings.push_back(std::move(text));
      }
    }
    return warnings;
  }

  std::string directory_;
};

TEST_F(CheckWarnings, NothingIsSaidOfWhatIsThere) {
  Write("web.env", "A=1\n");
  Write("run.sh", "#!/bin/sh\n", 0755);
  EXPECT_THAT(Warnings(R"("a": {"command": "sh", "environment_file": "web.env", "working_directory": "/"},
                          "b": {"command": "/bin/sh"}, "c": {"command": "./run.sh"},
                          "d": {"command": "run.sh", "environment": {"PATH": ")" +
                       directory_ + R"("}})"),
              IsEmpty());
}

TEST_F(CheckWarnings, CommandsThatCannotBeRun) {
  Write("plain.sh", "#!/bin/sh\n", 0644);
  Write("bad.sh", "#!/no/such/python -u\n", 0755);
  EXPECT_THAT(
      Warnings(R"(
 "a": {"command": "/no/such/program"},
 "b": {"command": "no-such-program-anywhere", "environment": {"PATH": "/bin:/sbin"}},
 "c": {"command": "./plain.sh"},
 "d": {"command": "./bad.sh"},
 "e": {"command": "/"},
 "f": {"command": "/bin/sleep 1000"},
 "g": {"command": "sh", "hooks": {"pre_start": {"command": "./gone"}},
       "health_check": {"type": "script", "command": "./gone"}, "graceful_shutdown": {"command": "./gone"}})"),
      ElementsAre(
          "c.json:2:19: services.a.command: warning: /no/such/program: No such file or directory (ENOENT)",
          "c.json:3:19: services.b.command: warning: no-such-program-anywhere is in none of /bin:/sbin",
          "c.json:4:19: services.c.command: warning: plain.sh cannot be executed by anybody (chmod +x)",
          "c.json:5:19: services.d.command: warning: the interpreter in the first line of bad.sh is missing: "
          "/no/such/python: No such file or directory (ENOENT)",
          "c.json:6:19: services.e.command: warning: / is a directory (expected a program)",
          "c.json:7:19: services.f.command: warning: /bin/sleep 1000: No such file or directory (ENOENT) (arguments "
          R"(belong in "args": "command": "/bin/sleep", "args": ["1000"]))",
          "c.json:8:60: services.g.hooks.pre_start.command: warning: gone: No such file or directory (ENOENT)",
          "c.json:9:54: services.g.health_check.command: warning: gone: No such file or directory (ENOENT)",
          "c.json:9:98: services.g.graceful_shutdown.command: warning: gone: No such file or directory (ENOENT)"));
}

TEST_F(CheckWarnings, DirectoriesUsersGroupsAndEnvironmentFiles) {
  Write("bad.env", "A=1\nnot an assignment\n");
  const std::vector<std::string> warnings = Warnings(R"(
 "a": {"command": "sh", "working_directory": "/no/such/directory"},
 "b": {"command": "sh", "working_directory": "/etc/passwd"},
 "c": {"command": "sh", "user": "no-such-user", "group": "no-such-group"},
 "d": {"command": "sh", "environment_file": "gone.env"},
 "e": {"command": "sh", "environment_file": "bad.env"},
 "f": {"command": "sh", "health_check": {"type": "http", "url": "https://localhost/", "ca_file": "gone.pem"}})");
  ASSERT_EQ(warnings.size(), 7u) << ::testing::PrintToString(warnings);
  EXPECT_EQ(warnings[0],
            "c.json:2:46: services.a.working_directory: warning: /no/such/directory: No such file or directory "
            "(ENOENT)");
  EXPECT_EQ(warnings[1], "c.json:3:46: services.b.working_directory: warning: /etc/passwd is no directory");
  EXPECT_EQ(warnings[2], "c.json:4:33: services.c.user: warning: user no-such-user: no such user");
  EXPECT_EQ(warnings[3], "c.json:4:58: services.c.group: warning: group no-such-group: no such group");
  EXPECT_THAT(warnings[4], StartsWith("c.json:5:45: services.d.environment_file: warning: gone.env: No such file"));
  EXPECT_THAT(warnings[5], StartsWith("c.json:6:45: services.e.environment_file: warning: bad.env: line 2"));
  EXPECT_THAT(warnings[6], HasSubstr("services.f.health_check.ca_file: warning: gone.pem: No such file"));
}

TEST_F(CheckWarnings, EachInstanceIsLookedAtAndWhatAllLackIsSaidOnce) {
  mkdir((directory_ + "/work-0").c_str(), 0755);
  EXPECT_THAT(Warnings(R"("w": {"command": "/no/such/program", "instances": 3,
      "working_directory": "work-${INSTANCE}"})"),
              ElementsAre("c.json:1:32: services.w.command: warning: /no/such/program: No such file or directory "
                          "(ENOENT)",
                          "c.json:2:28: services.w.working_directory: warning: work-1: No such file or directory "
                          "(ENOENT)",
                          "c.json:2:28: services.w.working_directory: warning: work-2: No such file or directory "
                          "(ENOENT)"));
}

TEST_F(CheckWarnings, ADependencyThatNeverCompletes) {
  EXPECT_THAT(Warnings(R"("w": {"command": "sh", "depends_on": [{"service": "m", "condition": "completed"}]},
      "m": {"command": "sh"})"),
              ElementsAre("c.json:1:52: services.w.depends_on: warning: m never completes: its restart_policy.mode is "
                          "always (expected on-failure or never)"));
  EXPECT_THAT(Warnings(R"("w": {"command": "sh", "depends_on": [{"service": "m", "condition": "completed"}]},
      "m": {"command": "sh", "restart_policy": {"mode": "never"}})"),
              IsEmpty());
}

TEST_F(CheckWarnings, IncludedFilesHaveTheirOwnPlaces) {
  Write("more.json", R"({"services": {"x": {"command": "/no/such/program"}}})");
  const LoadedConfig loaded = LoadConfig(Write("c.json", R"({"global": {"include": ["more.json"]}, "services": {}})"));
  ASSERT_TRUE(loaded.config);
  const std::vector<ConfigError> warnings = FindWarnings(loaded);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_EQ(warnings[0].file, directory_ + "/more.json");
  EXPECT_EQ(warnings[0].line, 1);
}

}  // namespace
}  // namespace supervisor
