#include "daemon/process/usage.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>

#include "daemon/process/descriptor_budget.h"
#include "daemon/process/exec_state.h"
#include "daemon/process/proc_fs.h"
#include "daemon/process/spawn.h"
#include "tests/daemon/process/process_harness.h"

namespace supervisor {
namespace {

ProcessTreeView OwnSession() {
  return {.cgroup = "",
          .has_memory_controller = false,
          .sessions = {getsid(0), getpid()},
          .reaped = {},
          .mark = RunMark("-"),
          .owner = {}};
}

Usage SampleOf(UsageSampler& sampler, const ProcessTreeView& tree, absl::Duration at) {
  EveryProcess everybody;
  return sampler.Sample(tree, everybody, at);
}

// A process in a session of its own, with a child; both hold a block of memory that they share.
class Family {
 public:
  explicit Family(size_t bytes) {
    int ready[2];
    EXPECT_EQ(pipe2(ready, O_CLOEXEC), 0);
    pid_ = fork();
    if (pid_ == 0) {
      setsid();
      volatile char* block = new char[bytes];
      for (size_t at = 0; at < bytes; at += 1024) {
        block[at] = 1;
      }
      static_cast<void>(fork());
      static_cast<void>(!write(ready[1], "x", 1));
      for (;;) {
        pause();
      }
    }
    close(ready[1]);
    char both[2];
    for (int got = 0; got < 2;) {
      const ssize_t more = read(ready[0], both, 1);
      EXPECT_GT(more, 0);
      got += more > 0 ? static_cast<int>(more) : 2;
    }
    close(ready[0]);
  }
  ~Family() {
    kill(-pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  Family(const Family&) = delete;
  Family& operator=(const Family&) = delete;

  ProcessTreeView view() const {
    return {.cgroup = "",
            .has_memory_controller = false,
            .sessions = {pid_},
            .reaped = {},
            .mark = RunMark("-"),
            .owner = {}};
  }

 private:
  pid_t pid_ = -1;
};

TEST(UsageSampler, MeasuresBetweenSamples) {
  UsageSampler sampler;
  const Usage first = SampleOf(sampler, OwnSession(), absl::Seconds(1));
  EXPECT_FALSE(first.cpu_percent.has_value()) << "there is nothing yet that it could be since";
  EXPECT_FALSE(first.read_bytes_per_second.has_value());
  EXPECT_GT(first.memory_mb, 0.1);
  EXPECT_GE(first.processes, 1);
  const uint64_t before = ReadProcStat(getpid())->cpu_ticks;
  volatile uint64_t work = 0;
  while (ReadProcStat(getpid())->cpu_ticks < before + 5) {
    for (int i = 0; i < 100'000; ++i) {
      work = work + static_cast<uint64_t>(i);
    }
  }
  EXPECT_GT(SampleOf(sampler, OwnSession(), absl::Seconds(2)).cpu_percent.value_or(0), 1);
}

TEST(UsageSampler, ARateOverAMomentIsNoneAndItsTicksCountLater) {
  UsageSampler sampler;
  SampleOf(sampler, OwnSession(), absl::Seconds(1));
  const uint64_t before = ReadProcStat(getpid())->cpu_ticks;
  volatile uint64_t work = 0;
  while (ReadProcStat(getpid())->cpu_ticks < before + 5) {
    for (int i = 0; i < 100'000; ++i) {
      work = work + static_cast<uint64_t>(i);
    }
  }
  const Usage soon = SampleOf(sampler, OwnSession(), absl::Milliseconds(1003));
  EXPECT_FALSE(soon.cpu_percent.has_value());
  EXPECT_FALSE(soon.written_bytes_per_second.has_value());
  EXPECT_GT(soon.memory_mb, 0.1);
  const Usage later = SampleOf(sampler, OwnSession(), absl::Milliseconds(1500));
  ASSERT_TRUE(later.cpu_percent.has_value());
  EXPECT_GE(*later.cpu_percent, 9) << "50 ms in 500 ms";
  EXPECT_FALSE(SampleOf(sampler, OwnSession(), absl::Milliseconds(1600)).cpu_percent.has_value()) << "since the last";
}

TEST(UsageSampler, OfTheWholeTreeAndMemoryThatIsSharedOnce) {
  constexpr size_t kBlock = 128 << 20;  // much beside what the program itself takes, sanitized too
  const Family family(kBlock);
  UsageSampler sampler;
  const Usage usage = SampleOf(sampler, family.view(), absl::Seconds(1));
  EXPECT_EQ(usage.processes, 2);
  EXPECT_GT(usage.memory_mb, 120);
  EXPECT_LT(usage.memory_mb, 230) << "resident memory of both, added up, would be 256";
  ASSERT_TRUE(usage.descriptors.has_value());
  EXPECT_GE(*usage.descriptors, 6);
  EXPECT_TRUE(SampleOf(sampler, family.view(), absl::Seconds(2)).read_bytes_per_second.has_value());
}

TEST(UsageSampler, WhereDescriptorsAreFewNoneIsKeptAndRatesAreKnownAllTheSame) {
  if (!OpenDescriptors()) {
    GTEST_SKIP() << "this kernel does not count descriptors";
  }
  DescriptorBudget budget;
  budget.Begin({.limit = 100, .own = 0, .reserve = 0, .for_services = 10});
  const Family family(1 << 20);
  for (const bool plenty : {true, false}) {
    budget.Expect(plenty ? 0 : 20, 0);
    EXPECT_EQ(DescriptorsAreInPlenty(), plenty);
    UsageSampler sampler;
    const uint64_t before = *OpenDescriptors();
    SampleOf(sampler, family.view(), absl::Seconds(1));
    EXPECT_EQ(*OpenDescriptors() - before, plenty ? 6u : 0u) << "stat, smaps_rollup and io of two processes";
    const Usage second = SampleOf(sampler, family.view(), absl::Seconds(2));
    EXPECT_TRUE(second.read_bytes_per_second.has_value());
    ASSERT_TRUE(second.cpu_percent.has_value());
    EXPECT_LT(*second.cpu_percent, 50) << "all that it used before is not of this second";
  }
  budget.Expect(0, 0);
}

TEST(UsageSampler, NothingOfWhatHasGone) {
  UsageSampler sampler;
  const ProcessTreeView gone{.cgroup = "",
                             .has_memory_controller = false,
                             .sessions = {0x3ffffff},
                             .reaped = {},
                             .mark = RunMark("-"),
                             .owner = {}};
  const Usage usage = SampleOf(sampler, gone, absl::Seconds(1));
  EXPECT_EQ(usage.processes, 0);
  EXPECT_EQ(usage.memory_mb, 0);
  EXPECT_FALSE(usage.descriptors.has_value());
}

// ------------------------------------------------------------------------------------------ other address spaces

double FreshPssMb(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/smaps_rollup", pid));
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("Pss:")) {
      return std::stod(line.substr(4)) / 1024;
    }
  }
  return -1;
}

// Waits until a program has loaded what it needs and sleeps: until then its memory grows between two looks.
void AwaitSleep(pid_t pid) {
  for (std::optional<ProcStat> stat = ReadProcStat(pid); stat && stat->state != 'S'; stat = ReadProcStat(pid)) {
    usleep(1000);
  }
}

// A program whose execve(2) the kernel holds until LetGo, by a write lease (fcntl(2), F_SETLEASE).
class HeldProgram {
 public:
  HeldProgram() {
    std::filesystem::copy_file("/bin/sleep", path_, std::filesystem::copy_options::overwrite_existing);
    std::signal(SIGIO, SIG_IGN);  // how the kernel tells that somebody waits
    fd_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    EXPECT_EQ(fcntl(fd_, F_SETLEASE, F_WRLCK), 0) << strerror(errno);
  }
  ~HeldProgram() {
    close(fd_);
    std::filesystem::remove(path_);
  }
  HeldProgram(const HeldProgram&) = delete;
  HeldProgram& operator=(const HeldProgram&) = delete;
  void LetGo() const { EXPECT_EQ(fcntl(fd_, F_SETLEASE, F_UNLCK), 0); }
  const std::string& path() const { return path_; }

 private:
  std::string path_ = fmt::format("{}/held-program-{}", std::filesystem::temp_directory_path().string(), getpid());
  int fd_ = -1;
};

ProcessTreeView TreeOf(pid_t session) {
  return {.cgroup = "",
          .has_memory_controller = false,
          .sessions = {session},
          .reaped = {},
          .mark = RunMark("-"),
          .owner = {}};
}

TEST(UsageSampler, NothingOfAProcessThatHasNotBecomeItsProgram) {
  const HeldProgram program;
  SpawnRequest request;
  request.command = program.path();
  request.args = {"1000"};
  Loop loop;
  absl::StatusOr<std::unique_ptr<ChildProcess>> child =
      ChildProcess::Spawn(loop, request,
                          {.on_started =
                               [&](const std::optional<SpawnFailure>& failure) {
                                 EXPECT_FALSE(failure.has_value()) << failure->ToString();
                                 loop.Stop();
                               },
                           .on_exit = [&](WaitStatus) { loop.Stop(); }});
  ASSERT_TRUE(child.ok()) << child.status();
  const pid_t pid = (*child)->pid();
  const ProcessTreeView tree = TreeOf(pid);
  UsageSampler sampler;
  const Usage before = SampleOf(sampler, tree, absl::Seconds(1));
  EXPECT_TRUE(AwaitsExec(*ReadProcStat(pid)));
  EXPECT_EQ(before.awaiting_exec, 1);
  EXPECT_EQ(before.processes, 0);
  EXPECT_EQ(before.memory_mb, 0) << "this program's own";
  program.LetGo();
  loop.Run();
  AwaitSleep(pid);
  const Usage after = SampleOf(sampler, tree, absl::Seconds(2));
  EXPECT_FALSE(AwaitsExec(*ReadProcStat(pid)));
  EXPECT_EQ(after.awaiting_exec, 0);
  EXPECT_EQ(after.processes, 1);
  EXPECT_FALSE(after.has_resident_memory);
  EXPECT_NEAR(after.memory_mb, FreshPssMb(pid), 0.3);
  EXPECT_TRUE((*child)->Signal(SIGKILL).ok());
  loop.Run();
}

TEST(UsageSampler, AfterAnExecTheNewAddressSpaceWithoutRecourseToResidentMemory) {
  int go[2];
  ASSERT_EQ(pipe2(go, O_CLOEXEC), 0);
  SpawnRequest request = ProcessHarness::Shell("read go; exec sleep 1000");
  request.stdin_fd = go[0];
  ProcessHarness harness;
  const ProcessHarness::Ended ended = harness.Run(request, [&](ChildProcess& child) {
    const ProcessTreeView tree = TreeOf(child.pid());
    UsageSampler sampler;
    AwaitSleep(child.pid());
    EXPECT_NEAR(SampleOf(sampler, tree, absl::Seconds(1)).memory_mb, FreshPssMb(child.pid()), 0.3);
    const uint64_t stack = ReadProcStat(child.pid())->stack_start;
    EXPECT_EQ(write(go[1], "go\n", 3), 3);
    while (ReadProcStat(child.pid())->stack_start == stack) {
      usleep(1000);
    }
    AwaitSleep(child.pid());
    for (int look = 2; look < 5; ++look) {
      const Usage usage = SampleOf(sampler, tree, absl::Seconds(look));
      EXPECT_FALSE(usage.has_resident_memory);
      EXPECT_EQ(usage.processes, 1);
    }
    EXPECT_NEAR(SampleOf(sampler, tree, absl::Seconds(5)).memory_mb, FreshPssMb(child.pid()), 0.3);
    EXPECT_TRUE(child.Signal(SIGKILL).ok());
  });
  EXPECT_TRUE(ended.status.has_value());
  close(go[0]);
  close(go[1]);
}

// posix_spawn(3), vfork(2): until its exec the child has its parent's memory, and there are not two of it.
TEST(UsageSampler, WhatAChildSharesUntilItsExecCountsOnce) {
  const HeldProgram program;
  ProcessHarness harness;
  const std::string script = fmt::format(
      "import os, sys; x = bytearray(64 << 20); os.posix_spawn('{0}', ['{0}', '1000'], {{}})", program.path());
  SpawnRequest request;
  request.command = "python3";
  request.args = {"-S", "-c", script};
  request.environment = {{"PATH", "/usr/bin:/bin"}};
  const ProcessHarness::Ended ended = harness.Run(request, [&](ChildProcess& child) {
    UsageSampler sampler;
    Usage usage;
    for (int look = 1; usage.processes < 2; ++look) {
      usage = SampleOf(sampler, TreeOf(child.pid()), absl::Seconds(look));
    }
    EXPECT_GT(usage.memory_mb, 60);
    EXPECT_LT(usage.memory_mb, 120);
    program.LetGo();
    kill(-child.pid(), SIGKILL);
  });
  EXPECT_TRUE(ended.status.has_value());
}

}  // namespace
}  // namespace supervisor
