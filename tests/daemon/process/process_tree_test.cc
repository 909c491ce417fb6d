#include "daemon/process/process_tree.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>

#include "daemon/process/proc_fs.h"
#include "tests/daemon/process/process_harness.h"

namespace supervisor {
namespace {

// A main process with a child, a child in a session of its own, and a double-forked one, each marked.
constexpr const char* kFamily =
    "sleep 1000 & setsid sleep 1000 & (setsid sh -c 'sleep 1000 & exit 0' &) ; echo ready; exec sleep 1000";

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

class ProcessTreeTest : public ::testing::TestWithParam<bool> {
 protected:
  ProcessTreeTest() { prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }

  // Null where cgroups are not what is tested, or where there are none.
  static std::unique_ptr<CgroupRoot> Cgroups(const std::string& name) {
    return GetParam() ? CgroupRoot::Detect(name) : nullptr;
  }
};

TEST_P(ProcessTreeTest, NothingOfTheFamilyIsLeft) {
  const RunMark mark = RunMark::Random();
  const std::unique_ptr<CgroupRoot> cgroups = Cgroups(fmt::format("test{}", getpid()));
  if (GetParam() && cgroups == nullptr) {
    GTEST_SKIP() << "no cgroup v2 that this user may use";
  }
  std::unique_ptr<Cgroup> cgroup;
  if (cgroups != nullptr) {
    absl::StatusOr<std::unique_ptr<Cgroup>> made = cgroups->Create("family");
    ASSERT_TRUE(made.ok()) << made.status();
    cgroup = *std::move(made);
  }
  {
    ProcessTree tree(std::move(cgroup));
    EXPECT_TRUE(tree.Empty());
    ProcessHarness harness;
    SpawnRequest request = ProcessHarness::Shell(kFamily);
    tree.PlaceIn(request, mark);
    const ProcessHarness::Ended ended = harness.Run(request, [&](ChildProcess& child) {
      tree.SetSession(child.pid());
      EXPECT_TRUE(Eventually([&] { return tree.Pids().size() >= 4; })) << tree.Pids().size() << " of 4 found";
      EXPECT_TRUE(child.Signal(SIGKILL).ok());
    });
    EXPECT_EQ(ended.status, WaitStatus::Signaled(SIGKILL));
    EXPECT_FALSE(tree.Empty()) << "the children have outlived the main process";
    EXPECT_TRUE(Eventually([&] {
      tree.Kill();
      while (waitpid(-1, nullptr, WNOHANG) > 0) {  // the orphans are this subreaper's
      }
      return tree.Empty();
    }));
    for (const ProcStat& process : ReadAllProcesses()) {
      EXPECT_NE(EnvironmentValue(process.pid, RunMark::kVariable), mark.secret()) << "pid " << process.pid;
    }
  }
}

// The kernel remembers that a cgroup was killed, and would kill the next that is born in it too.
TEST(ProcessTree, WhatStartsAfterAKillIsNotKilled) {
  const std::unique_ptr<CgroupRoot> cgroups = CgroupRoot::Detect(fmt::format("killed{}", getpid()));
  if (cgroups == nullptr) {
    GTEST_SKIP() << "no cgroup v2 that this user may use";
  }
  absl::StatusOr<std::unique_ptr<Cgroup>> cgroup = cgroups->Create("again");
  ASSERT_TRUE(cgroup.ok()) << cgroup.status();
  EXPECT_TRUE((*cgroup)->TakesBirths());
  ProcessTree tree(*std::move(cgroup));
  ProcessHarness harness;
  const auto run = [&](const char* script) {
    SpawnRequest request = ProcessHarness::Shell(script);
    tree.PlaceIn(request, RunMark::Random());
    return harness.Run(request, [&](ChildProcess&) {
      if (script == std::string("exec sleep 1000")) {
        tree.Kill();
      }
    });
  };
  EXPECT_EQ(run("exec sleep 1000").status, WaitStatus::Signaled(SIGKILL));
  EXPECT_FALSE(tree.cgroup()->TakesBirths());
  EXPECT_EQ(run("exit 7").status, WaitStatus::Exited(7)) << "moved into the same one";
  tree.SetCgroup(nullptr);
  absl::StatusOr<std::unique_ptr<Cgroup>> fresh = cgroups->Create("again");
  ASSERT_TRUE(fresh.ok()) << fresh.status();
  tree.SetCgroup(*std::move(fresh));
  EXPECT_TRUE(tree.cgroup()->TakesBirths());
  EXPECT_EQ(run("exit 7").status, WaitStatus::Exited(7)) << "born in a new one of the same name";
}

INSTANTIATE_TEST_SUITE_P(WithAndWithoutCgroup, ProcessTreeTest, ::testing::Bool(),
                         [](const auto& which) { return which.param ? "cgroup" : "session"; });

}  // namespace
}  // namespace supervisor
