#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "daemon/process/proc_fs.h"
#include "tests/daemon/process/process_harness.h"

namespace supervisor {
namespace {

using ::testing::HasSubstr;
using Step = SpawnFailure::Step;

class ChildProcessTest : public ::testing::Test {
 protected:
  ChildProcessTest() {
    std::string path = (std::filesystem::temp_directory_path() / "child-XXXXXX").string();
    directory_ = mkdtemp(path.data());
  }
  ~ChildProcessTest() override { std::filesystem::remove_all(directory_); }

  // What the script writes to its stdout.
  std::string OutputOf(SpawnRequest request) {
    std::array<int, 2> ends{};
    EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    const UniqueFd read_end(ends[0]);
    UniqueFd write_end(ends[1]);
    request.stdout_fd = write_end.get();
    ended_ = harness_.Run(request);
    write_end.Reset();
    std::string output;
    std::array<char, 4096> buffer{};
    for (ssize_t got = 0; (got = read(read_end.get(), buffer.data(), buffer.size())) > 0;) {
      output.append(buffer.data(), static_cast<size_t>(got));
    }
    return output;
  }

  std::map<std::string, std::string> StatusOf(const SpawnRequest& request) {
    std::istringstream lines(OutputOf(request));
    std::map<std::string, std::string> fields;
    for (std::string line; std::getline(lines, line);) {
      const size_t colon = line.find(":\t");
      if (colon != std::string::npos) {
        fields[line.substr(0, colon)] = line.substr(colon + 2);
      }
    }
    return fields;
  }

  std::string directory_;
  ProcessHarness harness_;
  ProcessHarness::Ended ended_;
};

TEST_F(ChildProcessTest, ReportsExitCodesAndSignals) {
  EXPECT_EQ(harness_.Run(ProcessHarness::Shell("exit 7")).status, WaitStatus::Exited(7));
  EXPECT_EQ(harness_.Run(ProcessHarness::Shell("kill -KILL $$")).status, WaitStatus::Signaled(SIGKILL));
  EXPECT_EQ(WaitStatus::Signaled(SIGSEGV, true).ToString(), "killed by SIGSEGV (core dumped)");
  EXPECT_EQ(WaitStatus::FromRaw(7 << 8), WaitStatus::Exited(7));
  EXPECT_EQ(WaitStatus::FromRaw(9), WaitStatus::Signaled(9));
}

TEST_F(ChildProcessTest, KnowsTheStartTimeThatTheKernelTells) {
  for (int i = 0; i < 50; ++i) {
    uint64_t told = 0;
    uint64_t known = 0;
    harness_.Run(ProcessHarness::Shell("exec sleep 1000"), [&](ChildProcess& child) {
      told = ReadProcStat(child.pid()).value_or(ProcStat{}).start_ticks;
      known = child.start_ticks();
      EXPECT_TRUE(child.Signal(SIGKILL).ok());
    });
    EXPECT_EQ(known, told);
    EXPECT_NE(known, 0u);
  }
}

// However many descriptors this process has, the child is handed three.
TEST_F(ChildProcessTest, AChildGetsNoneOfManyDescriptors) {
  std::vector<UniqueFd> many;
  for (int i = 0; i < 900; ++i) {
    many.emplace_back(open("/dev/null", O_RDONLY));  // not close-on-exec
  }
  EXPECT_EQ(OutputOf(ProcessHarness::Shell("cd /proc/self/fd && for fd in *; do [ -e \"$fd\" ] && echo \"$fd\"; done")),
            "0\n1\n2\n");
}

TEST_F(ChildProcessTest, AFailedStartNamesTheStepAndTheErrno) {
  const auto failure = [&](const SpawnRequest& request) {
    const ProcessHarness::Ended ended = harness_.Run(request);
    EXPECT_TRUE(ended.started) << "told before the exit";
    EXPECT_TRUE(ended.status.has_value()) << "and reaped";
    return ended.failure.value_or(SpawnFailure{});
  };
  SpawnRequest request = ProcessHarness::Shell("true");
  request.command = "/no/such/program";
  EXPECT_EQ(failure(request).step, Step::kExec);
  EXPECT_EQ(failure(request).ToString(), "command /no/such/program: No such file or directory (ENOENT)");

  request.command = "no-such-program-in-path";
  EXPECT_THAT(failure(request).ToString(), HasSubstr("(looked for in /usr/bin:/bin): No such file or directory"));

  const std::string plain = directory_ + "/plain";
  std::ofstream(plain) << "not a program\n";
  request.command = plain;
  EXPECT_EQ(failure(request).error, EACCES);
  std::filesystem::permissions(plain, std::filesystem::perms::owner_all);
  EXPECT_EQ(failure(request).error, ENOEXEC) << "and never handed to a shell";

  std::ofstream(plain) << "#!/no/such/interpreter\n";
  EXPECT_THAT(failure(request).ToString(), HasSubstr("interpreter"));

  request = ProcessHarness::Shell("true");
  request.working_directory = "/no/such/directory";
  EXPECT_EQ(failure(request).step, Step::kWorkingDirectory);
  EXPECT_EQ(failure(request).ToString(), "working_directory /no/such/directory: No such file or directory (ENOENT)");

  request = ProcessHarness::Shell("true");
  request.args.push_back(std::string(4 << 20, 'x'));
  EXPECT_EQ(failure(request).error, E2BIG);
}

TEST_F(ChildProcessTest, TheChildIsClean) {
  // Dirty on purpose: a blocked and an ignored signal, and a descriptor that is open over exec.
  sigset_t blocked;
  sigset_t before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  const auto old_handler = std::signal(SIGPIPE, SIG_IGN);
  const UniqueFd stray(fcntl(STDIN_FILENO, F_DUPFD, 100));

  const std::map<std::string, std::string> status = StatusOf(ProcessHarness::Shell("cat /proc/self/status"));
  EXPECT_EQ(status.at("SigBlk"), "0000000000000000");
  EXPECT_EQ(status.at("SigIgn"), "0000000000000000");
  EXPECT_EQ(status.at("SigCgt"), "0000000000000000");
  // The fourth is ls's own, for the directory.
  EXPECT_EQ(OutputOf(ProcessHarness::Shell("exec ls /proc/self/fd")), "0\n1\n2\n3\n");

  std::signal(SIGPIPE, old_handler);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST_F(ChildProcessTest, RunsInASessionOfItsOwnWithWhatWasAskedFor) {
  SpawnRequest request =
      ProcessHarness::Shell("echo $(umask) $(pwd) $A; ulimit -n; ps -o sid= -p $$ | tr -d ' '; echo $$");
  request.environment.emplace_back("A", "value with spaces");
  request.working_directory = directory_;
  request.umask = 027;
  request.limits.push_back({RLIMIT_NOFILE, {64, 64}});
  std::istringstream lines(OutputOf(request));
  std::array<std::string, 4> line;
  for (std::string& one : line) {
    std::getline(lines, one);
  }
  EXPECT_EQ(line[0], "0027 " + directory_ + " value with spaces");
  EXPECT_EQ(line[1], "64");
  EXPECT_EQ(line[2], line[3]) << "the session is its own";
}

TEST_F(ChildProcessTest, BecomesAnotherUser) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "needs root";
  }
  absl::StatusOr<SpawnRequest::Credentials> nobody = LookUpCredentials("nobody", "");
  ASSERT_TRUE(nobody.ok()) << nobody.status();
  SpawnRequest request = ProcessHarness::Shell("cat /proc/self/status");
  request.credentials = *nobody;
  request.no_new_privileges = true;
  std::map<std::string, std::string> status = StatusOf(request);
  ASSERT_FALSE(ended_.failure.has_value()) << ended_.failure->ToString();
  const std::string uid = std::to_string(nobody->uid);
  EXPECT_EQ(status["Uid"], uid + "\t" + uid + "\t" + uid + "\t" + uid);
  EXPECT_EQ(status["NoNewPrivs"], "1");
  EXPECT_EQ(status["CapEff"], "0000000000000000");
}

TEST_F(ChildProcessTest, UnknownUsersAndGroupsAreNamed) {
  // The kernel takes it for "as it is": our own.
  EXPECT_FALSE(LookUpCredentials("4294967295", "").ok());
  EXPECT_FALSE(LookUpCredentials("nobody", "4294967295").ok());
  EXPECT_EQ(std::string(LookUpCredentials("no-such-user", "").status().message()), "user no-such-user: no such user");
  EXPECT_EQ(std::string(LookUpCredentials("", "no-such-group").status().message()),
            "group no-such-group: no such group");
  EXPECT_EQ(LookUpCredentials("54321", "54322")->uid, 54321u) << "a number needs no entry";
  EXPECT_EQ(LookUpCredentials("54321", "54322")->gid, 54322u);
}

TEST_F(ChildProcessTest, SignalsGoThroughThePidfd) {
  const ProcessHarness::Ended ended = harness_.Run(ProcessHarness::Shell("exec sleep 1000"), [](ChildProcess& child) {
    EXPECT_GT(child.start_ticks(), 0u);
    EXPECT_TRUE(child.Signal(SIGTERM).ok());
  });
  EXPECT_EQ(ended.status, WaitStatus::Signaled(SIGTERM));
}

TEST_F(ChildProcessTest, AReusedPidIsNotAdopted) {
  harness_.Run(ProcessHarness::Shell("exec sleep 1000"), [&](ChildProcess& child) {
    EXPECT_FALSE(ChildProcess::Adopt(harness_.loop(), child.pid(), child.start_ticks() + 1, {}).ok());
    EXPECT_TRUE(ChildProcess::Adopt(harness_.loop(), child.pid(), child.start_ticks(), {}).ok());
    EXPECT_TRUE(child.Signal(SIGKILL).ok());
  });
  EXPECT_FALSE(ChildProcess::Adopt(harness_.loop(), 0x3ffffff, 1, {}).ok());
}

TEST_F(ChildProcessTest, OutOfDescriptorsIsAnErrorAndNoCrash) {
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  const UniqueFd highest(dup(STDIN_FILENO));
  const rlimit none{static_cast<rlim_t>(highest.get() + 1), before.rlim_max};
  setrlimit(RLIMIT_NOFILE, &none);
  const absl::StatusOr<std::unique_ptr<ChildProcess>> child =
      ChildProcess::Spawn(harness_.loop(), ProcessHarness::Shell("true"), {});
  setrlimit(RLIMIT_NOFILE, &before);
  ASSERT_FALSE(child.ok());
  EXPECT_THAT(std::string(child.status().message()), HasSubstr("EMFILE"));
}

}  // namespace
}  // namespace supervisor
