#include "daemon/process/proc_fs.h"

#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>
#include <vector>

#include "common/unique_fd.h"
#include "daemon/process/signal_refusal.h"
#include "daemon/process/usage.h"

namespace supervisor {
namespace {

TEST(ProcStat, NamesMayHoldAnything) {
  const std::string rest =
      " S 1 10 20 0 -1 4194560 100 0 0 0 7 5 0 0 20 0 1 0 12345 1000000 250 18446744073709551615 1 1";
  for (const char* name : {"sh", "a b", "x) R 9 9", ")", "(((", ""}) {
    const auto stat = ParseProcStat("42 (" + std::string(name) + ")" + rest);
    ASSERT_TRUE(stat.has_value()) << name;
    EXPECT_EQ(stat->pid, 42);
    EXPECT_EQ(stat->state, 'S');
    EXPECT_EQ(stat->parent, 1);
    EXPECT_EQ(stat->session, 20);
    EXPECT_EQ(stat->cpu_ticks, 12u);
    EXPECT_EQ(stat->start_ticks, 12345u);
    EXPECT_EQ(stat->rss_pages, 250u);
  }
}

TEST(ProcStat, WhatATaskRunsOn) {
  const auto stat = [](const char* flags, const char* rest) {
    return ParseProcStat(std::string("42 (sh) S 1 10 20 0 -1 ") + flags +
                         " 100 0 0 0 7 5 0 0 20 0 1 0 12345 1000000 250 18446744073709551615" + rest);
  };
  EXPECT_TRUE(stat("4194560", " 94 95 140").value().has_execed);
  EXPECT_FALSE(stat("4194368", " 94 95 140").value().has_execed) << "0x400040: PF_FORKNOEXEC";
  EXPECT_EQ(stat("0", " 94 95 140")->code_start, 94u);
  EXPECT_EQ(stat("0", " 94 95 140")->stack_start, 140u);
  const auto brief = stat("0", "");
  ASSERT_TRUE(brief.has_value()) << "a kernel that says less";
  EXPECT_EQ(brief->stack_start, 0u);
  EXPECT_NE(ReadProcStat(getpid())->stack_start, 0u);
}

TEST(ProcStat, WhatIsNoneIsRefused) {
  for (const char* text : {"", "42", "42 (sh)", "42 (sh) S", "42 (sh) S 1 2", "x (sh) S 1 2 3", "\n"}) {
    EXPECT_FALSE(ParseProcStat(text).has_value()) << text;
  }
}

TEST(ProcStat, AZombieTellsHowItEnded) {
  std::string script = "exit 7";
  std::string shell = "/bin/sh";
  std::string option = "-c";
  char* const argv[] = {shell.data(), option.data(), script.data(), nullptr};
  pid_t pid = 0;
  ASSERT_EQ(posix_spawn(&pid, "/bin/sh", nullptr, nullptr, argv, environ), 0);
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
  const uint64_t start_ticks = ReadProcStat(pid)->start_ticks;
  EXPECT_EQ(ReadZombieStatus(pid, start_ticks), 7 << 8);
  EXPECT_EQ(ReadZombieStatus(pid, start_ticks + 1), std::nullopt) << "another process of that pid";
  waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED);
  EXPECT_EQ(ReadZombieStatus(pid, start_ticks), std::nullopt);
  EXPECT_EQ(ReadZombieStatus(getpid(), ReadProcStat(getpid())->start_ticks), std::nullopt) << "it lives";
}

TEST(ProcStat, OfThisProcess) {
  const auto self = ReadProcStat(getpid());
  ASSERT_TRUE(self.has_value());
  EXPECT_EQ(self->parent, getppid());
  EXPECT_GT(self->rss_pages, 0u);
  EXPECT_FALSE(ReadProcStat(0x3ffffff).has_value());
  EXPECT_EQ(BootId().size(), 36u);
  EXPECT_EQ(RealUid(getpid()), getuid());
  EXPECT_EQ(RealUid(0x3ffffff), std::nullopt);
  EXPECT_FALSE(ProcessName(getpid()).empty());
  EXPECT_EQ(ProcessName(0x3ffffff), "");
}

TEST(SignalRefusal, SaysWhoseProcessItIsAndWhy) {
  const std::string self = DescribeProcess(getpid());
  EXPECT_EQ(self.find("pid " + std::to_string(getpid()) + " (" + ProcessName(getpid()) + ") of uid "), 0u) << self;
  const std::string text = DescribeRefusals(SIGKILL, {{getpid(), EPERM}});
  EXPECT_EQ(text.find("SIGKILL to " + self + ": Operation not permitted (EPERM) for uid "), 0u) << text;
  EXPECT_EQ(DescribeRefusals(SIGTERM, {{0x3ffffff, EINVAL}}), "SIGTERM to pid 67108863: Invalid argument (EINVAL)");
}

TEST(SignalRefusal, ALongListEndsWithHowManyMoreThereAre) {
  const std::vector<SignalRefusal> many(5, {0x3ffffff, EPERM});
  EXPECT_NE(DescribeRefusals(SIGTERM, many).find("; and 2 more"), std::string::npos);
  EXPECT_NE(DescribeLeft(std::vector<pid_t>(4, getpid())).find(" is still there; and 1 more"), std::string::npos);
}

TEST(SignalRefusal, AProcessThatIsGoneRefusesNothing) {
  const pid_t child = fork();
  if (child == 0) {
    _exit(0);
  }
  const UniqueFd pid_fd(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
  waitpid(child, nullptr, 0);
  EXPECT_EQ(SendSignalTo(pid_fd.get(), SIGTERM), 0);
  EXPECT_EQ(SendSignalTo(-1, SIGTERM), EBADF);
}

}  // namespace
}  // namespace supervisor
