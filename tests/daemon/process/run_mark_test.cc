#include "daemon/process/run_mark.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <string>

#include "daemon/process/proc_fs.h"
#include "daemon/process/process_tree.h"
#include "daemon/process/strays.h"
#include "tests/daemon/process/process_harness.h"

namespace supervisor {
namespace {

constexpr uint64_t kFloor = uint64_t{1} << 62;
constexpr uint64_t kSpan = uint64_t{1} << 40;
constexpr uid_t kNobody = 65534;

TEST(RunMark, EachIsAnother) {
  const RunMark one = RunMark::Random();
  const RunMark other = RunMark::Random();
  EXPECT_EQ(one.secret().size(), RunMark::kSecretSize);
  EXPECT_NE(one.secret(), other.secret());
  EXPECT_NE(one.lineage(), other.lineage());
  EXPECT_GT(one.lineage(), 0u);
  EXPECT_LT(one.lineage(), kSpan);
  EXPECT_EQ(RunMark(one.secret()), one) << "as read from a record";
}

TEST(RunMark, OfAnotherTextThereIsNoLineage) {
  for (const char* text : {"", "/run/supervisord/state/web", "0123456789abcdef", "0123456789ABCDEF0123456789ABCDEF"}) {
    EXPECT_EQ(RunMark(text).lineage(), 0u) << text;
  }
  EXPECT_EQ(RunMark("0000000000ffffffffffffffffffffff").lineage(), 1u) << "0 would be none";
  EXPECT_EQ(RunMark("ffffffffff0000000000000000000000").lineage(), kSpan - 1);
}

TEST(RunMark, ALineageIsTwoLimitsThatAgree) {
  EXPECT_EQ(LineageOfLimits(kFloor + 7, kFloor + kSpan - 7), 7u);
  EXPECT_EQ(LineageOfLimits(kFloor + 7, kFloor + kSpan - 8), 0u);
  EXPECT_EQ(LineageOfLimits(kFloor, kFloor + kSpan), 0u);
  EXPECT_EQ(LineageOfLimits(kFloor + kSpan, kFloor), 0u);
  EXPECT_EQ(LineageOfLimits(RLIM_INFINITY, RLIM_INFINITY), 0u);
  EXPECT_EQ(LineageOfLimits(0, 0), 0u);
}

TEST(RunMark, AsProcTellsTheLimits) {
  const auto file = [](const std::string& rss, const std::string& locks) {
    return fmt::format(
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max cpu time              unlimited            unlimited            seconds   \n"
        "Max resident set          {:<20} bytes     \n"
        "Max file locks            {:<20} locks     \n",
        rss, locks);
  };
  EXPECT_EQ(ParseLineage(file("1 4611686018427387911", "unlimited 4611687117939015673")), 7u);
  EXPECT_EQ(ParseLineage(file("unlimited unlimited", "unlimited unlimited")), 0u);
  EXPECT_EQ(ParseLineage(file("4611686018427387911 unlimited", "1 4611687117939015673")), 0u) << "the soft limit";
  EXPECT_EQ(ParseLineage(""), 0u);
  EXPECT_EQ(ParseLineage("Max resident set"), 0u);
}

TEST(RunMark, NoneIsPutOnNothing) {
  SpawnRequest request;
  RunMark().PutOn(request, true);
  EXPECT_TRUE(request.environment.empty());
  EXPECT_TRUE(request.limits.empty());
}

TEST(RunMark, TheSecretTakesThePlaceOfWhatTheConfigurationSays) {
  SpawnRequest request;
  request.environment = {{RunMark::kVariable, "mine"}, {"A", "b"}};
  const RunMark mark = RunMark::Random();
  mark.PutOn(request, false);
  EXPECT_EQ(request.environment.size(), 2u);
  EXPECT_EQ(request.environment.back().second, mark.secret());
  EXPECT_TRUE(request.limits.empty());
}

// Waits, without a fixed sleep, until a condition about other processes holds.
template <typename Condition>
bool Eventually(const Condition& condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) {
      return true;
    }
    poll(nullptr, 0, 5);
  }
  return false;
}

// What this process, the subreaper, has inherited and what has become its program: on the way there are others.
std::vector<pid_t> Orphans(pid_t but) {
  std::vector<pid_t> orphans;
  for (const ProcStat& stat : ReadAllProcesses()) {
    if (stat.parent == getpid() && stat.pid != but && !stat.is_dead() &&
        ReadProcFile(stat.pid, "cmdline").starts_with("sleep")) {
      orphans.push_back(stat.pid);
    }
  }
  return orphans;
}

class Marked : public ::testing::Test {
 protected:
  Marked() { prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }
  ~Marked() override {
    for (const pid_t orphan : Orphans(0)) {
      kill(orphan, SIGKILL);
    }
    while (waitpid(-1, nullptr, 0) > 0) {
    }
  }

  // Runs the script as a tree's main process; `look` is called when there is an orphan.
  void Run(const std::string& script, const RunMark& mark,
           const std::function<void(ProcessTree& tree, pid_t main, pid_t orphan)>& look) {
    ProcessTree tree(nullptr);
    SpawnRequest request = ProcessHarness::Shell(script);
    tree.PlaceIn(request, mark);
    ProcessHarness harness;
    harness.Run(request, [&](ChildProcess& child) {
      tree.SetSession(child.pid());
      EXPECT_TRUE(Eventually([&] { return Orphans(child.pid()).size() == 1; }));
      look(tree, child.pid(), Orphans(child.pid()).front());
      EXPECT_TRUE(child.Signal(SIGKILL).ok());
    });
  }
};

// In a session of its own, without parent and environment.
constexpr const char* kStays = "(setsid sleep 1000 &); exec sleep 1000";
constexpr const char* kWiped = "(setsid env -i sh -c 'PATH=/usr/bin:/bin; sleep 1000 & exit 0' &); exec sleep 1000";

TEST_F(Marked, AnOrphanWithoutEnvironmentIsKnownByItsLineage) {
  const RunMark mark = RunMark::Random();
  Run(kWiped, mark, [&](ProcessTree& tree, pid_t main, pid_t orphan) {
    if (!GivesLineages()) {
      GTEST_SKIP() << "under limits that this user cannot raise";
    }
    EXPECT_EQ(EnvironmentValue(orphan, RunMark::kVariable), std::nullopt);
    EXPECT_EQ(LineageOf(main), mark.lineage());
    EXPECT_EQ(LineageOf(orphan), mark.lineage());
    EXPECT_EQ(ParseLineage(ReadProcFile(orphan, "limits")), mark.lineage());
    EXPECT_EQ(std::ranges::count(tree.Pids(), orphan), 1);
    EXPECT_TRUE(tree.Contains(orphan));
    EXPECT_TRUE(tree.Contains(main));
    EXPECT_FALSE(tree.Contains(getpid()));
    EXPECT_FALSE(tree.Contains(getppid()));
    EXPECT_FALSE(tree.Contains(1));
    EXPECT_FALSE(tree.Contains(0x3fffffff));

    ProcessTree other(nullptr);
    other.Resume(RunMark::Random(), geteuid());
    other.SetSession(0x3ffffff);
    EXPECT_TRUE(other.Pids().empty());
    EXPECT_FALSE(other.Contains(orphan));
  });
}

TEST_F(Marked, TheSecretCountsForTheRunsUserAlone) {
  const RunMark mark = RunMark::Random();
  const std::string script =
      fmt::format("(setsid env -i {}={} sh -c 'PATH=/usr/bin:/bin; sleep 1000 & exit 0' &); exec sleep 1000",
                  RunMark::kVariable, mark.secret());
  Run(script, RunMark(), [&](ProcessTree&, pid_t, pid_t orphan) {
    const auto has = [&](const RunMark& of, std::optional<uid_t> owner) {
      ProcessTree tree(nullptr);
      tree.Resume(of, owner);
      tree.SetSession(0x3ffffff);
      EXPECT_EQ(tree.Contains(orphan), std::ranges::count(tree.Pids(), orphan) == 1);
      return tree.Contains(orphan);
    };
    EXPECT_TRUE(has(mark, geteuid()));
    EXPECT_TRUE(has(mark, std::nullopt)) << "of a run whose user is not known any more";
    EXPECT_EQ(has(mark, geteuid() + 1), geteuid() == 0) << "root's may be anybody's";
    EXPECT_FALSE(has(RunMark::Random(), geteuid()));
    EXPECT_FALSE(has(RunMark(), geteuid()));
  });
}

TEST_F(Marked, AStrangersUserIsNotTheRunsUser) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "needs root";
  }
  const RunMark mark = RunMark::Random();
  const std::string script = fmt::format(
      "(setsid setpriv --reuid {} --clear-groups env -i {}={} sh -c 'PATH=/usr/bin:/bin; sleep 1000 & exit 0' &); "
      "exec sleep 1000",
      kNobody, RunMark::kVariable, mark.secret());
  Run(script, RunMark(), [&](ProcessTree&, pid_t, pid_t orphan) {
    EXPECT_EQ(RealUid(orphan), kNobody);
    ProcessTree tree(nullptr);
    tree.SetSession(0x3ffffff);
    tree.Resume(mark, 0);
    EXPECT_FALSE(tree.Contains(orphan)) << "it has copied the mark of root's";
    tree.Resume(mark, kNobody);
    EXPECT_TRUE(tree.Contains(orphan));
  });
}

TEST_F(Marked, AnOrphanThatNothingPlacesIsNamed) {
  EXPECT_EQ(DescribeStrays(FindStrays({}), "web"), "");
  Run(kWiped, RunMark(), [&](ProcessTree&, pid_t, pid_t orphan) {
    if (!GivesLineages() || LineageOf(getpid()) != 0) {
      GTEST_SKIP() << "under another supervisor";
    }
    const std::vector<Stray> strays = FindStrays({});
    ASSERT_EQ(strays.size(), 1U) << "and not the main process, which is waited for";
    EXPECT_EQ(DescribeStrays(strays, "web"), fmt::format("left running, and perhaps its own: {} (sleep)", orphan));
    EXPECT_TRUE(FindStrays({.main_pids = {orphan}, .ended = {}}).empty());
  });
  EXPECT_TRUE(DescribeStrays(std::vector<Stray>(7, {1, ""}), "web").ends_with("and 2 more"));
}

TEST_F(Marked, WhatAnEndedRunHasLeftIsItsServices) {
  const RunMark mark = RunMark::Random();
  Run(kStays, mark, [&](ProcessTree&, pid_t, pid_t orphan) {
    EXPECT_TRUE(FindStrays({}).empty()) << "its run goes on, as far as this can tell";
    const std::vector<Stray> strays = FindStrays({.main_pids = {}, .ended = {{mark.secret(), "web"}}});
    ASSERT_EQ(strays.size(), 1U);
    EXPECT_EQ(strays[0].pid, orphan);
    EXPECT_TRUE(DescribeStrays(strays, "web").starts_with(fmt::format("left running: {} (sleep", orphan)));
    EXPECT_EQ(DescribeStrays(strays, "other"), "");
  });
}

TEST_F(Marked, OneThatHasAMarkIsNoStray) {
  Run(kWiped, RunMark::Random(), [](ProcessTree&, pid_t, pid_t) {
    if (GivesLineages()) {
      EXPECT_TRUE(FindStrays({}).empty());
    }
  });
}

// Whoever may not raise limits cannot take on another run's lineage, higher or lower.
TEST(RunMark, NobodyTakesOnTheLineageOfAnother) {
  for (const auto& [mine, wanted] :
       {std::pair(RunMark("80"), RunMark("70")), std::pair(RunMark("70"), RunMark("80"))}) {
    const std::string rest(RunMark::kSecretSize - 2, '0');
    const RunMark from(mine.secret() + rest);
    const RunMark to(wanted.secret() + rest);
    SpawnRequest own;
    from.PutOn(own, true);
    SpawnRequest others;
    to.PutOn(others, true);
    if (own.limits.empty()) {
      GTEST_SKIP() << "under limits that this user cannot raise";
    }
    const pid_t pid = fork();
    if (pid == 0) {
      for (const SpawnRequest::Limit& limit : own.limits) {
        if (setrlimit(static_cast<__rlimit_resource_t>(limit.resource), &limit.value) != 0) {
          _exit(2);
        }
      }
      if (geteuid() == 0 && setresuid(kNobody, kNobody, kNobody) != 0) {
        _exit(3);
      }
      for (const SpawnRequest::Limit& limit : others.limits) {
        static_cast<void>(setrlimit(static_cast<__rlimit_resource_t>(limit.resource), &limit.value));
      }
      const uint64_t lineage = LineageOf(getpid());
      _exit(lineage == to.lineage() ? 1 : 0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
  }
}

}  // namespace
}  // namespace supervisor
