#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <string>

#include "common/clock.h"
#include "daemon/health/checker.h"
#include "tests/daemon/health/check_runner.h"

namespace supervisor {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

HealthCheckConfig Script(const std::string& command, std::vector<std::string> args = {}) {
  HealthCheckConfig config;
  config.type = HealthCheckType::kScript;
  config.run = {.command = command, .args = std::move(args)};
  config.timeout = absl::Seconds(20);
  return config;
}

HealthCheckConfig Shell(const std::string& script) { return Script("/bin/sh", {"-c", script}); }

class ScriptCheck : public testing::Test {
 protected:
  CheckResult Run(const HealthCheckConfig& config) { return RunCheck(checker_, config, target_); }
  // Unlike that of any other test that runs at the same time.
  static std::string NewMark() {
    static std::atomic<int> number = 0;
    return fmt::format("HEALTH_TEST_MARK={}-{}", getpid(), ++number);
  }

  // For what was killed by somebody who does not wait for its end.
  static void ExpectNoneLeft(const std::string& mark) {
    const MonoTime patience_ends = MonotonicNow() + absl::Seconds(20);
    while (!ProcessesMarked(mark).empty() && MonotonicNow() < patience_ends) {
      usleep(1000);
    }
    EXPECT_THAT(ProcessesMarked(mark), IsEmpty());
  }

  TempDirectory directory_;
  CheckTarget target_{.id = "web:0", .pid = 4711, .working_directory = directory_.path(), .run_as = nullptr};
  Checker checker_;
};

TEST_F(ScriptCheck, ExitCodes) {
  const CheckResult good = Run(Shell("exit 0"));
  EXPECT_TRUE(good.success);
  EXPECT_EQ(good.message, "exit code 0");
  const CheckResult bad = Run(Shell("echo no; echo disk >&2; exit 3"));
  EXPECT_FALSE(bad.success);
  EXPECT_EQ(bad.message, "exit code 3: no disk");
  EXPECT_EQ(Run(Shell("kill -SEGV $$")).message, "killed by SIGSEGV");
}

TEST_F(ScriptCheck, RunsWithTheServicesEnvironmentWhereAsked) {
  HealthCheckConfig config = Shell("echo $PATH; echo $TOKEN $SERVICE_ID $SERVICE_PID");
  RunAs run_as;
  run_as.environment = {{"PATH", "/service/bin:/bin"}, {"TOKEN", "t0"}, {"SERVICE_ID", "not this"}};
  target_.run_as = std::make_shared<const RunAs>(run_as);
  EXPECT_THAT(Run(config).message, Not(HasSubstr("t0")));
  config.script_environment = ScriptEnvironment::kService;
  EXPECT_EQ(Run(config).message, "exit code 0: /service/bin:/bin t0 web:0 4711");
  target_.run_as = std::make_shared<const RunAs>();  // of a service whose environment is not known
  EXPECT_THAT(Run(config).message, Not(HasSubstr("t0")));
}

TEST_F(ScriptCheck, WithoutAServiceItIsThisProcesss) {
  setenv("HEALTH_TEST_OWN", "mine", 1);
  HealthCheckConfig config = Shell("echo own=$HEALTH_TEST_OWN");
  EXPECT_EQ(Run(config).message, "exit code 0: own=");
  config.script_environment = ScriptEnvironment::kService;
  EXPECT_EQ(Run(config).message, "exit code 0: own=mine");
  unsetenv("HEALTH_TEST_OWN");
}

TEST_F(ScriptCheck, Output) {
  HealthCheckConfig config = Shell("echo 'queue: 17 jobs'");
  config.expected_content = "queue";
  EXPECT_EQ(Run(config).message, "exit code 0: queue: 17 jobs");
  config.expected_regex = "^queue: [0-9]+ jobs$";
  EXPECT_FALSE(Run(config).success) << "the newline counts";
  config.expected_regex = "(?m)^queue: [0-9]+ jobs$";
  EXPECT_TRUE(Run(config).success);
  config.expected_content = "idle";
  EXPECT_EQ(Run(config).message, "output lacks \"idle\": queue: 17 jobs");
}

TEST_F(ScriptCheck, OutputIsMadeFitForAMessage) {
  const CheckResult result = Run(Shell("printf 'a\\377\\000b\\033[31m\\n'; exit 1"));
  EXPECT_EQ(result.message, "exit code 1: a\xef\xbf\xbd b [31m");
}

TEST_F(ScriptCheck, HugeOutput) {
  HealthCheckConfig config = Shell("head -c 20000000 /dev/zero | tr '\\0' x; echo END; exit 1");
  config.expected_regex = "x";
  const CheckResult result = Run(config);
  EXPECT_THAT(result.message, StartsWith("exit code 1: xxx"));
  EXPECT_THAT(result.message, HasSubstr("END"));
  EXPECT_LE(result.message.size(), 4096u + 20);
}

TEST_F(ScriptCheck, EndlessOutput) {
  HealthCheckConfig config = Shell("yes");
  config.timeout = absl::Milliseconds(300);
  const CheckResult result = Run(config);
  EXPECT_THAT(result.message, StartsWith("timed out after 300 ms: "));
  EXPECT_LT(result.response_time_ms, 3000);
}

TEST_F(ScriptCheck, Environment) {
  setenv("HEALTH_TEST_SECRET", "canary", 1);  // NOLINT(concurrency-mt-unsafe)
  const CheckResult result = Run(Script("env"));
  unsetenv("HEALTH_TEST_SECRET");  // NOLINT(concurrency-mt-unsafe)
  EXPECT_THAT(result.message, HasSubstr("SERVICE_ID=web:0"));
  EXPECT_THAT(result.message, HasSubstr("SERVICE_PID=4711"));
  EXPECT_THAT(result.message, HasSubstr("PATH=/"));
  EXPECT_THAT(result.message, testing::Not(HasSubstr("canary")));
}

TEST_F(ScriptCheck, StartsClean) {
  sigset_t blocked;
  sigset_t before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  const auto old_pipe = std::signal(SIGPIPE, SIG_IGN);
  const int inherited = dup(0);  // without close-on-exec
  const CheckResult result =
      Run(Shell("grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd | wc -l; readlink /proc/self/fd/0; pwd"));
  close(inherited);
  std::signal(SIGPIPE, old_pipe);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  // `ls` has 0 to 2 and the directory that it reads.
  EXPECT_EQ(result.message, fmt::format("exit code 0: SigBlk: 0000000000000000 SigIgn: 0000000000000000 4 /dev/null {}",
                                        directory_.path()));
}

TEST_F(ScriptCheck, CannotRun) {
  EXPECT_EQ(Run(Script("/no/such/script")).message, "cannot run /no/such/script: No such file or directory (ENOENT)");
  EXPECT_EQ(Run(Script("no-such-command-anywhere")).message,
            "cannot run no-such-command-anywhere: No such file or directory (ENOENT)");
  const std::string path = directory_.AddScript("plain", "#!/bin/sh\n");
  chmod(path.c_str(), 0644);
  EXPECT_EQ(Run(Script(path)).message,
            fmt::format("cannot run {}: Permission denied (EACCES) (is it executable?)", path));
  const std::string no_header = directory_.AddScript("no_header", "true\n");
  EXPECT_EQ(Run(Script(no_header)).message,
            fmt::format("cannot run {}: Exec format error (ENOEXEC) (does it begin with #!?)", no_header));
  const std::string no_interpreter = directory_.AddScript("no_interpreter", "#!/no/such/interpreter\n");
  EXPECT_THAT(Run(Script(no_interpreter)).message, HasSubstr("does its #! interpreter exist?"));
  target_.working_directory = "/no/such/directory";
  EXPECT_EQ(Run(Shell("exit 0")).message,
            "cannot run /bin/sh: working_directory /no/such/directory: No such file or directory (ENOENT)");
}

TEST_F(ScriptCheck, RunsAsItsService) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "needs root";
  }
  RunAs run_as;
  run_as.credentials = {.uid = 54321, .gid = 54322, .groups = {54323, 54324}, .user = "svc", .home = {}, .shell = {}};
  run_as.umask = 027;
  run_as.no_new_privileges = true;
  target_.run_as = std::make_shared<const RunAs>(run_as);
  target_.working_directory = "/";
  EXPECT_EQ(
      Run(Shell("grep -E '^(Uid|Gid|Groups|CapEff|NoNewPrivs|Umask):' /proc/self/status | tr -d '\\n'")).message,
      "exit code 0: Umask: 0027Uid: 54321 54321 54321 54321Gid: 54322 54322 54322 54322Groups: 54323 54324 CapEff: "
      "0000000000000000NoNewPrivs: 1");
  // What only root may enter, it may not.
  EXPECT_EQ(chmod(directory_.path().c_str(), 0700), 0);
  target_.working_directory = directory_.path();
  EXPECT_EQ(Run(Shell("exit 0")).message,
            fmt::format("cannot run /bin/sh: working_directory {}: Permission denied (EACCES)", directory_.path()));
  EXPECT_EQ(getuid(), 0u) << "nothing of this process has changed";
}

TEST_F(ScriptCheck, WithoutAServiceItRunsAsWeDo) {
  const mode_t before = umask(031);
  const CheckResult result = Run(Shell("id -u; umask"));
  umask(before);
  EXPECT_EQ(result.message, fmt::format("exit code 0: {} 0031", geteuid()));
}

TEST_F(ScriptCheck, WhoMayNotBecomeTheUserFailsAndSaysSo) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "needs root";
  }
  // In a program of its own: threads of earlier tests may be there still, and a fork of theirs must start none.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto check_as_another = [] {
    constexpr uid_t kOther = 54321;
    const bool other = setresgid(kOther, kOther, kOther) == 0 && setresuid(kOther, kOther, kOther) == 0;
    RunAs run_as;
    run_as.credentials = {.uid = 0, .gid = kOther, .groups = {}, .user = "svc", .home = {}, .shell = {}};
    CheckResult result{.message = "cannot become another", .finished = {}};
    if (other) {
      Checker checker;
      result =
          RunCheck(checker, Shell("id -u"),
                   {.id = "web", .pid = 1, .working_directory = "/", .run_as = std::make_shared<const RunAs>(run_as)});
    }
    static_cast<void>(!write(STDERR_FILENO, result.message.data(), result.message.size()));
    _exit(result.success ? 1 : 0);
  };
  EXPECT_EXIT(check_as_another(), ::testing::ExitedWithCode(0),
              "cannot run /bin/sh: user svc: Operation not permitted \\(EPERM\\)");
}

TEST_F(ScriptCheck, BadExpression) {
  HealthCheckConfig config = Shell("exit 0");
  config.expected_regex = "*";
  EXPECT_THAT(Run(config).message, StartsWith("expected_regex \"*\""));
}

TEST_F(ScriptCheck, TimeoutLeavesNothing) {
  const std::string mark = NewMark();
  HealthCheckConfig config = Shell(fmt::format("export {}; sleep 998 & (sleep 999 &) ; echo on; wait", mark));
  config.timeout = absl::Seconds(2);  // enough for it to have said so
  const CheckResult result = Run(config);
  EXPECT_EQ(result.message, "timed out after 2.0 s: on");
  EXPECT_THAT(ProcessesMarked(mark), IsEmpty());
}

TEST_F(ScriptCheck, TimeoutLeavesNoEscapedDaemon) {
  const std::string mark = NewMark();
  // Sessions of their own, parents gone: nothing ties them to the script but where they come from.
  HealthCheckConfig config = Shell(fmt::format(
      "export {}; for i in 1 2 3 4 5; do (setsid sh -c 'sleep 998 & sleep 999' &) ; done; trap '' TERM; sleep 997",
      mark));
  config.timeout = absl::Milliseconds(400);
  EXPECT_THAT(Run(config).message, StartsWith("timed out"));
  EXPECT_THAT(ProcessesMarked(mark), IsEmpty());
}

TEST_F(ScriptCheck, CleanExitLeavesNothing) {
  const std::string mark = NewMark();
  const CheckResult result =
      Run(Shell(fmt::format("export {}; sleep 999 & (setsid sleep 998 &) ; echo fine; exit 0", mark)));
  EXPECT_TRUE(result.success);
  EXPECT_EQ(result.message, "exit code 0: fine");
  EXPECT_LT(result.response_time_ms, 10000);
  EXPECT_THAT(ProcessesMarked(mark), IsEmpty());
}

TEST_F(ScriptCheck, StoppedScriptIsKilled) {
  const std::string mark = NewMark();
  HealthCheckConfig config = Shell(fmt::format("export {}; sleep 999 & kill -STOP $! $$; true", mark));
  config.timeout = absl::Milliseconds(300);
  EXPECT_THAT(Run(config).message, StartsWith("timed out"));
  EXPECT_THAT(ProcessesMarked(mark), IsEmpty());
}

TEST_F(ScriptCheck, CancelKills) {
  const std::string mark = NewMark();
  const std::string ready = directory_.path() + "/ready";
  Results results;
  const uint64_t check = checker_.Start(Shell(fmt::format("export {}; sleep 999 & echo > {}; wait", mark, ready)),
                                        target_, results.Collect());
  while (access(ready.c_str(), F_OK) != 0) {
    usleep(1000);
  }
  checker_.Cancel(check);
  ExpectNoneLeft(mark);
  EXPECT_EQ(results.count(), 0u);
}

TEST_F(ScriptCheck, DestructorKills) {
  const std::string mark = NewMark();
  Results results;
  MonoTime before;
  {
    Checker checker;
    for (int i = 0; i < 50; ++i) {
      checker.Start(Shell(fmt::format("export {}; sleep 999 & (setsid sleep 998 &) ; wait", mark)), target_,
                    results.Collect(i));
    }
    // Some run by now, some start, some wait.
    while (ProcessesMarked(mark).size() < 10) {
      usleep(1000);
    }
    checker.Cancel(1);
    before = MonotonicNow();
  }
  EXPECT_LT(MonotonicNow() - before, absl::Seconds(10));
  ExpectNoneLeft(mark);
  EXPECT_EQ(results.count(), 0u);
}

// So many that are due at once wait for their turn, the last of them longer than its timeout: which begins with its
// turn.
TEST_F(ScriptCheck, WaitingForItsTurnIsNotTheServicesFault) {
  constexpr int kChecks = 1000;
  HealthCheckConfig config = Script("/bin/true");
  config.timeout = absl::Milliseconds(1200);
  Results results;
  const MonoTime began = MonotonicNow();
  for (int i = 0; i < kChecks; ++i) {
    checker_.Start(config, target_, results.Collect(i));
  }
  ASSERT_EQ(results.AwaitCount(kChecks), static_cast<size_t>(kChecks));
  EXPECT_GT(MonotonicNow() - began, config.timeout) << "too few checks to show anything";
  int failures = 0;
  for (int i = 0; i < kChecks; ++i) {
    const CheckResult result = results.Await(i);
    failures += result.success && result.response_time_ms < 1200 ? 0 : 1;
  }
  // Counted from when they were asked for, all but the first of them would have failed.
  EXPECT_LE(failures, kChecks / 100) << "more than a busy machine makes of it";
}

// What a script check that times out leaves behind, a thousand times.
TEST_F(ScriptCheck, AThousandTimeoutsLeaveNothing) {
  const std::string mark = NewMark();
  constexpr int kRounds = 1000;
  constexpr int kAtOnce = 50;
  HealthCheckConfig config = Shell(fmt::format("export {}; sleep 999 & wait", mark));
  int failures = 0;
  for (int round = 0; round < kRounds / kAtOnce; ++round) {
    Results results;
    for (int i = 0; i < kAtOnce; ++i) {
      config.timeout = absl::Milliseconds(1 + (i * 7 + round) % 40);
      checker_.Start(config, target_, results.Collect(i));
    }
    ASSERT_EQ(results.AwaitCount(kAtOnce), static_cast<size_t>(kAtOnce));
    for (int i = 0; i < kAtOnce; ++i) {
      failures += results.Await(i).success ? 0 : 1;
    }
  }
  EXPECT_EQ(failures, kRounds);
  // Those that were still starting at their deadline die right after it.
  ExpectNoneLeft(mark);
}

}  // namespace
}  // namespace supervisor
