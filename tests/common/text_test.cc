#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>

#include "common/errno_status.h"
#include "common/near_miss.h"
#include "common/paths.h"
#include "common/signal_names.h"
#include "common/time_format.h"

namespace supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

TEST(ErrnoText, SaysBothWordsAndName) {
  EXPECT_EQ(ErrnoText(ENOENT), "No such file or directory (ENOENT)");
  EXPECT_EQ(std::string(ErrnoToStatus(EACCES, "socket /x").message()), "socket /x: Permission denied (EACCES)");
  EXPECT_EQ(ErrnoText(99999), "error 99999");
}

TEST(Signals, NamesAndNumbersBothWays) {
  EXPECT_EQ(SignalName(SIGKILL), "SIGKILL");
  EXPECT_EQ(SignalName(SIGRTMIN + 3), "SIGRTMIN+3");
  EXPECT_EQ(ParseSignal("SIGTERM"), SIGTERM);
  EXPECT_EQ(ParseSignal("term"), SIGTERM);
  EXPECT_EQ(ParseSignal("15"), 15);
  EXPECT_EQ(ParseSignal("RTMIN+3"), SIGRTMIN + 3);
  for (const char* nonsense : {"", "0", "-1", "999", "SIG", "TERMS", "RTMIN+99", "RTMIN-1", "15x"}) {
    EXPECT_FALSE(ParseSignal(nonsense).has_value()) << nonsense;
  }
}

TEST(Timestamps, AreUtcWithMilliseconds) {
  EXPECT_EQ(FormatTimestamp(absl::FromUnixMillis(0)), "1970-01-01 00:00:00.000");
  EXPECT_EQ(FormatTimestamp(absl::FromUnixMillis(1'795'419'295'042)), "2026-11-23 07:34:55.042");
  EXPECT_EQ(FormatTimestamp(absl::FromUnixMillis(-1)), "1969-12-31 23:59:59.999");
}

TEST(Spans, AreShort) {
  EXPECT_EQ(FormatSpan(absl::ZeroDuration()), "0 ms");
  EXPECT_EQ(FormatSpan(absl::Milliseconds(850)), "850 ms");
  EXPECT_EQ(FormatSpan(absl::Milliseconds(4200)), "4.2 s");
  EXPECT_EQ(FormatSpan(absl::Milliseconds(59'600)), "1m 0s");
  EXPECT_EQ(FormatSpan(absl::Seconds(200)), "3m 20s");
  EXPECT_EQ(FormatSpan(absl::Minutes(125)), "2h 5m");
  EXPECT_EQ(FormatSpan(absl::Hours(292)), "12d 4h");
  EXPECT_EQ(FormatSpan(-absl::Seconds(1)), "0 ms");
}

TEST(NearMisses, FindsWhatWasMeant) {
  const std::vector<std::string> names = {"architect-prod", "architect-qa", "reading-app", "pharma"};
  EXPECT_THAT(NearMisses("architect-prdo", names, 1), ElementsAre("architect-prod"));
  EXPECT_THAT(NearMisses("parma", names), ElementsAre("pharma"));
  EXPECT_THAT(NearMisses("PHARMA", names), ElementsAre("pharma"));
  EXPECT_THAT(NearMisses("architect", names), UnorderedElementsAre("architect-qa", "architect-prod"));
  EXPECT_THAT(NearMisses("nginx", names), IsEmpty());
  EXPECT_THAT(NearMisses("", names), IsEmpty());
}

TEST(RuntimePaths, LieBesideTheSocket) {
  const RuntimePaths paths = GetRuntimePaths("/run/supervisord/supervisord.sock");
  EXPECT_EQ(paths.pid_file, "/run/supervisord/supervisord.pid");
  EXPECT_EQ(paths.lock_file, "/run/supervisord/supervisord.lock");
  EXPECT_EQ(paths.state_directory, "/run/supervisord/supervisord.state");
  EXPECT_NE(GetRuntimePaths("/tmp/a").pid_file, GetRuntimePaths("/tmp/b").pid_file);
}

}  // namespace
}  // namespace supervisor
