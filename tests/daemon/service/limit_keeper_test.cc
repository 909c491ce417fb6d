#include "daemon/service/limit_keeper.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <optional>

#include "daemon/process/cgroup_files.h"

namespace supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// A directory with the files of a cgroup, whose kernel is the test.
class LimitKeeperTest : public ::testing::Test {
 protected:
  LimitKeeperTest() {
    char name[] = "/tmp/limit-keeper-XXXXXX";
    directory_ = mkdtemp(name);
    for (const char* file : {"memory.max", "memory.swap.max", "memory.oom.group", "memory.events", "memory.current",
                             "memory.stat", "cpu.max", "cpu.weight.nice", "pids.max", "pids.events"}) {
      Say(file, "");
    }
    cgroup_.emplace(directory_, CgroupControllers{.memory = true, .cpu = true, .pids = true}, true);
    limits_.max_memory_mb = 64;
    limits_.max_processes = 5;
  }
  ~LimitKeeperTest() override {
    cgroup_.reset();
    std::filesystem::remove_all(directory_);
  }

  void Say(const std::string& file, const std::string& text) { std::ofstream(directory_ + "/" + file) << text; }
  std::string Said(const std::string& file) { return ReadCgroupFile(directory_ + "/" + file); }
  void SayMemoryEvents(int oom, int kills) {
    Say("memory.events", "low 0\noom " + std::to_string(oom) + "\noom_kill " + std::to_string(kills) + "\n");
  }
  std::vector<LimitKeeper::Finding> Look(double memory_mb = 0, std::optional<double> cpu = 0, size_t processes = 1) {
    return keeper_.Look(&*cgroup_, limits_, {.cpu_percent = cpu, .memory_mb = memory_mb}, processes, now_);
  }
  LimitKeeper::End End(const WaitStatus& status) { return keeper_.LookAtEnd(&*cgroup_, limits_, status, now_); }
  void BeginRun() {
    EXPECT_THAT(keeper_.Apply(&*cgroup_, limits_), IsEmpty());
    keeper_.BeginRun(&*cgroup_);
  }

  std::string directory_;
  std::optional<Cgroup> cgroup_;
  ResourceLimitsConfig limits_;
  LimitKeeper keeper_;
  MonoTime now_ = absl::Seconds(100);
};

TEST_F(LimitKeeperTest, WritesTheSettings) {
  BeginRun();
  EXPECT_EQ(Said("memory.max"), "67108864");
  EXPECT_EQ(Said("pids.max"), "5");
  EXPECT_EQ(LimitsEnforcement(keeper_.ways()), "cgroup");
}

TEST_F(LimitKeeperTest, WhatCannotBeWrittenIsWatched) {
  std::filesystem::remove(directory_ + "/memory.max");
  std::filesystem::remove(directory_ + "/memory.swap.max");  // which is no error
  EXPECT_THAT(keeper_.Apply(&*cgroup_, limits_), ElementsAre(HasSubstr("memory.max: No such file")));
  EXPECT_EQ(LimitsEnforcement(keeper_.ways()), "memory=watch,processes=cgroup");
}

TEST_F(LimitKeeperTest, WithoutACgroupAllIsWatched) {
  EXPECT_THAT(keeper_.Apply(nullptr, limits_), IsEmpty());
  keeper_.BeginRun(nullptr);
  EXPECT_EQ(LimitsEnforcement(keeper_.ways()), "watch");
  const auto findings = keeper_.Look(nullptr, limits_, {.cpu_percent = 0, .memory_mb = 70}, 6, now_);
  ASSERT_THAT(findings, SizeIs(2));
  EXPECT_EQ(findings[0].message, "memory 70.0 MB of 64.0 MB (resource_limits.max_memory_mb)");
  EXPECT_EQ(findings[1].message, "6 processes of 5 (resource_limits.max_processes)");
  EXPECT_TRUE(findings[0].must_restart);
}

TEST_F(LimitKeeperTest, EachWatchedLimitIsToldOnceAnEpisode) {
  limits_.on_exceed = OnFailure::kAlert;
  limits_.max_cpu_percent = 50;
  limits_.max_memory_mb = 0;
  BeginRun();
  const auto findings = Look(0, 60, 6);
  ASSERT_THAT(findings, SizeIs(2));
  EXPECT_FALSE(findings[0].must_restart);
  EXPECT_THAT(Look(0, 60, 6), IsEmpty());
  EXPECT_THAT(Look(0, 40, 6), IsEmpty());
  EXPECT_THAT(Look(0, 60, 6), SizeIs(1));
}

TEST_F(LimitKeeperTest, AnUnknownRateNeitherExceedsNorEndsAnEpisode) {
  limits_.on_exceed = OnFailure::kAlert;
  limits_.max_cpu_percent = 50;
  limits_.max_memory_mb = 0;
  BeginRun();
  EXPECT_THAT(Look(0, std::nullopt), IsEmpty());
  EXPECT_THAT(Look(0, 60), SizeIs(1));
  EXPECT_THAT(Look(0, std::nullopt), IsEmpty());
  EXPECT_TRUE(keeper_.exceeded());
  EXPECT_THAT(Look(0, 60), IsEmpty());
}

TEST_F(LimitKeeperTest, WatchedMemoryIsWhatTheKernelCountsButForIdleFiles) {
  limits_.on_exceed = OnFailure::kAlert;
  Say("memory.current", std::to_string(100 << 20) + "\n");
  Say("memory.stat", "anon 1\ninactive_file " + std::to_string(50 << 20) + "\nactive_file 5\n");
  BeginRun();
  EXPECT_THAT(Look(200), IsEmpty());
  Say("memory.stat", "anon 1\ninactive_file " + std::to_string(30 << 20) + "\n");
  const auto findings = Look(1);
  ASSERT_THAT(findings, SizeIs(1));
  EXPECT_THAT(findings[0].message, HasSubstr("memory 70.0 MB of 64.0 MB"));
}

TEST_F(LimitKeeperTest, AnEnforcedLimitIsNotWatchedToo) {
  BeginRun();
  EXPECT_THAT(Look(1000, 1000, 1000), IsEmpty());
}

TEST_F(LimitKeeperTest, AKillForItsLimitIsToldOnceAndExplainsTheEnd) {
  SayMemoryEvents(2, 2);  // of an earlier run
  BeginRun();
  SayMemoryEvents(3, 4);
  const LimitKeeper::End end = End(WaitStatus::Signaled(SIGKILL));
  ASSERT_THAT(end.findings, SizeIs(1));
  EXPECT_EQ(end.findings[0].type, "oom_killed");
  EXPECT_EQ(end.findings[0].message, "out of memory (limit 64 MB): the kernel killed 2 processes of it");
  EXPECT_EQ(end.findings[0].actor, "limit");
  EXPECT_EQ(end.why, "out of memory (limit 64 MB)");
  BeginRun();
  EXPECT_THAT(End(WaitStatus::Signaled(SIGKILL)).findings, IsEmpty());
  EXPECT_EQ(End(WaitStatus::Signaled(SIGKILL)).why, "");
}

TEST_F(LimitKeeperTest, AKillThatALookSawFirstStillExplainsTheEnd) {
  BeginRun();
  SayMemoryEvents(1, 1);
  EXPECT_THAT(Look(), SizeIs(1));
  now_ += absl::Seconds(60);  // the exit may be told late: with oom.group nothing of it can have survived
  const LimitKeeper::End end = End(WaitStatus::Signaled(SIGKILL));
  EXPECT_THAT(end.findings, IsEmpty());
  EXPECT_EQ(end.why, "out of memory (limit 64 MB)");
}

TEST_F(LimitKeeperTest, OtherEndsAreNotExplainedByIt) {
  BeginRun();
  SayMemoryEvents(0, 1);  // a worker of it, by the whole machine's want of memory
  EXPECT_THAT(Look(), SizeIs(1));
  EXPECT_EQ(End(WaitStatus::Exited(1)).why, "");
  EXPECT_THAT(End(WaitStatus::Signaled(SIGKILL)).why, HasSubstr("the machine's"));
  now_ += absl::Seconds(60);
  EXPECT_EQ(End(WaitStatus::Signaled(SIGKILL)).why, "");  // somebody's kill -9, much later
}

TEST_F(LimitKeeperTest, AKillForTheMachinesWantOfMemoryIsToldAsSuch) {
  BeginRun();
  SayMemoryEvents(0, 1);
  const LimitKeeper::End end = End(WaitStatus::Signaled(SIGKILL));
  ASSERT_THAT(end.findings, SizeIs(1));
  EXPECT_EQ(end.findings[0].actor, "kernel");
  EXPECT_THAT(end.why, HasSubstr("no limit of its own was reached"));
}

TEST_F(LimitKeeperTest, WhatHappenedBetweenTwoDaemonsIsTold) {
  BeginRun();
  SayMemoryEvents(1, 1);
  LimitKeeper next;
  EXPECT_THAT(next.Apply(&*cgroup_, limits_), IsEmpty());
  next.ResumeRun(keeper_.counters());
  const LimitKeeper::End end = next.LookAtEnd(&*cgroup_, limits_, WaitStatus::Unknown(), now_);
  EXPECT_THAT(end.findings, SizeIs(1));
  EXPECT_EQ(end.why, "out of memory (limit 64 MB)");
}

TEST_F(LimitKeeperTest, WhetherARunThatWasTakenOverExceedsIsNotKnownBeforeALook) {
  EXPECT_THAT(keeper_.Apply(nullptr, limits_), IsEmpty());
  keeper_.BeginRun(nullptr);
  EXPECT_EQ(keeper_.exceeded(), false);
  LimitKeeper next;
  EXPECT_THAT(next.Apply(nullptr, limits_), IsEmpty());
  next.ResumeRun(keeper_.counters());
  EXPECT_EQ(next.exceeded(), std::nullopt);
  EXPECT_THAT(next.Look(nullptr, limits_, {.cpu_percent = 0, .memory_mb = 70}, 1, now_), SizeIs(1));
  EXPECT_EQ(next.exceeded(), true);
  next.ResumeRun(keeper_.counters());
  EXPECT_THAT(next.Look(nullptr, limits_, {.cpu_percent = 0, .memory_mb = 1}, 1, now_), IsEmpty());
  EXPECT_EQ(next.exceeded(), false);
}

TEST_F(LimitKeeperTest, ARefusedForkIsToldOnceAnEpisode) {
  Say("pids.events", "max 7\n");
  BeginRun();
  EXPECT_THAT(Look(), IsEmpty());
  Say("pids.events", "max 8\n");
  const auto findings = Look();
  ASSERT_THAT(findings, SizeIs(1));
  EXPECT_EQ(findings[0].type, "limit_exceeded");
  EXPECT_THAT(findings[0].message, HasSubstr("5 processes and threads (resource_limits.max_processes)"));
  EXPECT_FALSE(findings[0].must_restart);
  Say("pids.events", "max 20\n");
  EXPECT_THAT(Look(), IsEmpty());  // it goes on
  EXPECT_THAT(Look(), IsEmpty());  // it is over
  Say("pids.events", "max 21\n");
  EXPECT_THAT(Look(), SizeIs(1));
}

}  // namespace
}  // namespace supervisor
