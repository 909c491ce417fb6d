#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include "daemon/health/checker.h"
#include "daemon/health/process_looks.h"
#include "daemon/process/proc_fs.h"
#include "tests/daemon/health/check_runner.h"

namespace supervisor {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using testing::StartsWith;

// A shell command in a group of its own, killed at the end.
class Child {
 public:
  explicit Child(const std::string& script) {
    std::vector<std::string> arguments = {"/bin/sh", "-c", script};
    std::vector<char*> pointers;
    for (std::string& argument : arguments) {
      pointers.push_back(argument.data());
    }
    pointers.push_back(nullptr);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    EXPECT_EQ(posix_spawn(&pid_, "/bin/sh", nullptr, &attributes, pointers.data(), environ), 0);
    posix_spawnattr_destroy(&attributes);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    kill(-pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }
  void AwaitState(char state) const {
    while (ReadProcStat(pid_)->state != state) {
      usleep(1000);
    }
  }

 private:
  pid_t pid_ = 0;
};

HealthCheckConfig Process() {
  HealthCheckConfig config;
  config.type = HealthCheckType::kProcess;
  return config;
}

class ProcessCheck : public testing::Test {
 protected:
  CheckResult Run(const HealthCheckConfig& config, pid_t pid) {
    return RunCheck(checker_, config, {.id = "x", .pid = pid, .working_directory = ""});
  }
  Checker checker_;
};

TEST_F(ProcessCheck, Alive) {
  const CheckResult result = Run(Process(), getpid());
  EXPECT_TRUE(result.success);
  EXPECT_EQ(result.message, fmt::format("process {} is alive", getpid()));
}

TEST_F(ProcessCheck, NotRunning) {
  EXPECT_EQ(Run(Process(), 0).message, "the process is not running");
  EXPECT_EQ(Run(Process(), -1).message, "the process is not running");
  EXPECT_EQ(Run(Process(), 0x3fffffff).message, "process 1073741823 is gone");
}

TEST_F(ProcessCheck, Zombie) {
  const Child child("exit 0");
  child.AwaitState('Z');
  EXPECT_THAT(Run(Process(), child.pid()).message, HasSubstr("is a zombie"));
}

TEST_F(ProcessCheck, Stopped) {
  const Child child("kill -STOP $$; sleep 999");
  child.AwaitState('T');
  HealthCheckConfig config = Process();
  EXPECT_EQ(Run(config, child.pid()).message, fmt::format("process {} is stopped (SIGSTOP or SIGTSTP)", child.pid()));
  config.timeout = absl::Milliseconds(20);
  EXPECT_THAT(Run(config, child.pid()).message, HasSubstr("is stopped"));
}

TEST_F(ProcessCheck, StoppedForAMomentOnly) {
  const Child child("kill -STOP $$; sleep 999");
  child.AwaitState('T');
  Results results;
  checker_.Start(Process(), {.id = "x", .pid = child.pid(), .working_directory = ""}, results.Collect());
  kill(child.pid(), SIGCONT);
  EXPECT_TRUE(results.Await().success) << results.Await().message;
}

// A process that waits for its vfork child to exec is in uninterruptible sleep.
class Blocked {
 public:
  Blocked() {
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      clone(&Blocked::Child, stack_.data() + stack_.size(), CLONE_VM | CLONE_VFORK | SIGCHLD, nullptr);
      _exit(0);
    }
    EXPECT_GT(pid_, 0);
    while (pid_ > 0 && ReadProcStat(pid_)->state != 'D') {
      usleep(1000);
    }
  }
  Blocked(const Blocked&) = delete;
  Blocked& operator=(const Blocked&) = delete;
  ~Blocked() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }

 private:
  static int Child(void* /*unused*/) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (true) {
      pause();
    }
  }

  std::array<char, 64 << 10> stack_{};
  pid_t pid_ = 0;
};

TEST_F(ProcessCheck, BlockedInTheKernel) {
  const Blocked blocked;
  HealthCheckConfig config = Process();
  config.timeout = absl::Milliseconds(500);  // patience is a part of it
  const CheckResult result = Run(config, blocked.pid());
  EXPECT_FALSE(result.success);
  EXPECT_EQ(result.message, fmt::format("process {} is blocked in the kernel (uninterruptible sleep)", blocked.pid()));
}

TEST_F(ProcessCheck, MemoryOfTheTree) {
  // The shell keeps some 40 MB in a variable, in a grandchild.
  const Child child("(x=$(head -c 40000000 /dev/zero | tr '\\0' x); sleep 999; echo \"$x\") & wait");
  HealthCheckConfig config = Process();
  config.max_memory_mb = 20;
  CheckResult result = Run(config, child.pid());
  for (int i = 0; i < 5000 && result.success; ++i) {
    usleep(2000);
    result = Run(config, child.pid());
  }
  EXPECT_THAT(result.message, MatchesRegex("memory [0-9.]+ MB \\(at most 20 MB; [0-9]+ processes\\)"));
  config.max_memory_mb = 100000;
  EXPECT_THAT(Run(config, child.pid()).message,
              MatchesRegex("process [0-9]+ is alive \\([0-9.]+ MB, [0-9]+ processes\\)"));
}

TEST_F(ProcessCheck, CpuOfTheTree) {
  const Child child("(while :; do :; done) & wait");
  HealthCheckConfig config = Process();
  config.max_cpu_percent = 1;
  const CheckResult result = Run(config, child.pid());
  EXPECT_THAT(result.message, MatchesRegex("CPU [0-9.]+ % \\(at most 1 %; 2 processes\\)"));
  config.max_cpu_percent = 10000;
  config.timeout = absl::Milliseconds(400);
  EXPECT_TRUE(Run(config, child.pid()).success);
}

TEST_F(ProcessCheck, IdleProcessUsesNoCpu) {
  const Child child("sleep 999");
  HealthCheckConfig config = Process();
  config.max_cpu_percent = 50;
  config.timeout = absl::Milliseconds(500);
  const CheckResult result = Run(config, child.pid());
  EXPECT_TRUE(result.success) << result.message;
}

TEST(ProcessLooks, ALookThatHangsIsTheOnlyOneAtItsProcess) {
  ProcessLooks looks;
  std::shared_ptr<UsageSampler> hangs = looks.SamplerFor(1, absl::Milliseconds(1));
  EXPECT_NE(hangs, nullptr);
  EXPECT_EQ(looks.SamplerFor(1, absl::Milliseconds(1)), nullptr);
  EXPECT_NE(looks.SamplerFor(2, absl::Milliseconds(1)), nullptr);
  hangs.reset();
  EXPECT_NE(looks.SamplerFor(1, absl::Milliseconds(1)), nullptr);
}

}  // namespace
}  // namespace supervisor
