#include "daemon/startup/running_supervisors.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <initializer_list>
#include <string>

#include "daemon/startup/internal_arguments.h"

namespace supervisor {
namespace {

std::string CommandLine(const std::vector<std::string>& arguments) {
  std::string line;
  for (const std::string& argument : arguments) {
    line += argument + '\0';
  }
  return line;
}

TEST(ParseSupervisor, ReadsWhatWeTellEachOther) {
  DaemonOptions options;
  options.config_file = "/etc/my config.json";
  options.socket = "/run/x.sock";
  for (const char* role : {"--internal-guardian", "--internal-daemon"}) {
    const auto found = ParseSupervisor(7, CommandLine(InternalArguments(role, options)));
    ASSERT_TRUE(found);
    EXPECT_EQ(found->pid, 7);
    EXPECT_EQ(found->config_file, "/etc/my config.json");
    EXPECT_EQ(found->socket, "/run/x.sock");
  }
}

TEST(ParseSupervisor, TakesNobodyElseForOne) {
  EXPECT_FALSE(ParseSupervisor(7, ""));
  EXPECT_FALSE(ParseSupervisor(7, "supervisord"));
  EXPECT_FALSE(ParseSupervisor(7, CommandLine({"supervisord", "-c", "/x.json", "--stop"})));
  EXPECT_FALSE(ParseSupervisor(7, CommandLine({"grep", "--internal-guardian", "--internal-socket=/x"})));
  EXPECT_FALSE(ParseSupervisor(7, CommandLine({"supervisord", "--internal-guardian", "--config"})));
}

TEST(ListSupervisors, ShowsNoneThatIsNoSupervisor) {
  for (const RunningSupervisor& one : ListSupervisors()) {
    EXPECT_NE(one.pid, getpid());
    EXPECT_FALSE(one.socket.empty());
  }
}

TEST(IsSameFile, ByNameOrByWhatLiesThere) {
  EXPECT_TRUE(IsSameFile("/none/x", "/none/x"));
  EXPECT_FALSE(IsSameFile("/none/x", "/none/y"));
  EXPECT_TRUE(IsSameFile("/proc/self/exe", "/proc/self/../self/exe"));
  EXPECT_FALSE(IsSameFile("/dev/null", "/dev/zero"));
}

}  // namespace
}  // namespace supervisor
