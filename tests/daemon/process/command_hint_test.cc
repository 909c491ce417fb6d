#include "daemon/process/command_hint.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>

#include "daemon/process/spawn_failure.h"

namespace supervisor {
namespace {

TEST(ArgumentsHint, SplitsWhatWasMeantToBeSplit) {
  EXPECT_EQ(ArgumentsHint("/bin/sleep 1000"),
            R"(arguments belong in "args": "command": "/bin/sleep", "args": ["1000"])");
  EXPECT_EQ(ArgumentsHint("python3 -m\thttp.server  8000"),
            R"(arguments belong in "args": "command": "python3", "args": ["-m", "http.server", "8000"])");
  EXPECT_EQ(ArgumentsHint("/bin/sleep "), R"(a blank is part of the name: "command": "/bin/sleep")");
  EXPECT_EQ(ArgumentsHint("/bin/sleep"), "");
  EXPECT_EQ(ArgumentsHint(""), "");
  EXPECT_EQ(ArgumentsHint(std::string(5000, 'x') + " y"), "") << "nobody reads that";
}

TEST(ArgumentsHint, IsInTheFailureOfAStart) {
  SpawnRequest request;
  request.command = "/bin/sleep 1000";
  EXPECT_EQ(DescribeFailure(SpawnFailure::Step::kExec, ENOENT, request).ToString(),
            R"(command /bin/sleep 1000 (arguments belong in "args": "command": "/bin/sleep", "args": ["1000"]): )"
            "No such file or directory (ENOENT)");
  EXPECT_EQ(DescribeFailure(SpawnFailure::Step::kExec, EACCES, request).what, "command /bin/sleep 1000");
}

TEST(OpenFiles, MoreThanTheHardLimitIsExplained) {
  EXPECT_FALSE(OpenFilesProblem(1));
  const rlim_t huge = rlim_t{1} << 60;
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  if (geteuid() != 0 && limit.rlim_max == RLIM_INFINITY) {
    GTEST_SKIP() << "no limit here";
  }
  ASSERT_TRUE(OpenFilesProblem(huge));
  SpawnRequest request;
  request.limits.push_back({RLIMIT_NOFILE, {huge, huge}});
  const std::string text = DescribeFailure(SpawnFailure::Step::kLimits, EPERM, request).ToString();
  EXPECT_TRUE(text.starts_with("resource_limits.max_open_files 1152921504606846976 (the ")) << text;
  EXPECT_NE(text.find(geteuid() == 0 ? "fs.nr_open" : "hard limit"), std::string::npos) << text;
}

}  // namespace
}  // namespace supervisor
