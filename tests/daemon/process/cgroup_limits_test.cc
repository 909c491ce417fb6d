#include "daemon/process/cgroup_limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "daemon/process/cgroup.h"

namespace supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr CgroupControllers kAll{.memory = true, .cpu = true, .pids = true};

ResourceLimitsConfig Limits(double memory_mb, double cpu_percent, int processes) {
  ResourceLimitsConfig limits;
  limits.max_memory_mb = memory_mb;
  limits.max_cpu_percent = cpu_percent;
  limits.max_processes = processes;
  return limits;
}

std::map<std::string, std::string> Values(const ResourceLimitsConfig& limits, const CgroupControllers& controllers) {
  std::map<std::string, std::string> values;
  for (const CgroupSetting& setting : SettingsFor(limits, ChooseLimitWays(limits, controllers), controllers)) {
    values[setting.file] = setting.value;
  }
  return values;
}

TEST(CgroupControllers, AreWholeWords) {
  EXPECT_EQ(ParseControllers("cpuset cpu io memory hugetlb pids rdma misc\n"), kAll);
  EXPECT_EQ(ParseControllers("cpuset io\n"), CgroupControllers{});
  EXPECT_EQ(ParseControllers("memory\n"), (CgroupControllers{.memory = true, .cpu = false, .pids = false}));
  EXPECT_EQ(ParseControllers("pids"), (CgroupControllers{.memory = false, .cpu = false, .pids = true}));
  EXPECT_EQ(ParseControllers(""), CgroupControllers{});
  EXPECT_EQ(ParseControllers("\n"), CgroupControllers{});
}

TEST(CgroupControllers, AreComparedOneByOne) {
  const CgroupControllers two = ParseControllers("memory pids");
  EXPECT_EQ(Without(kAll, two), ParseControllers("cpu"));
  EXPECT_EQ(kAll & two, two);
  EXPECT_THAT(two.Names(), ElementsAre("memory", "pids"));
  EXPECT_EQ(two.ToString(), "memory, pids");
  EXPECT_EQ(CgroupControllers{}.ToString(), "none");
}

TEST(LimitWays, AreChosenLimitByLimit) {
  const ResourceLimitsConfig limits = Limits(64, 50, 0);
  EXPECT_EQ(ChooseLimitWays(limits, kAll), (LimitWays{LimitWay::kCgroup, LimitWay::kCgroup, LimitWay::kNone}));
  EXPECT_EQ(ChooseLimitWays(limits, ParseControllers("memory pids")),
            (LimitWays{LimitWay::kCgroup, LimitWay::kWatch, LimitWay::kNone}));
  EXPECT_EQ(ChooseLimitWays(limits, {}), (LimitWays{LimitWay::kWatch, LimitWay::kWatch, LimitWay::kNone}));
  EXPECT_EQ(ChooseLimitWays({}, kAll), LimitWays{});
}

TEST(LimitWays, AnAlertEnforcesNothing) {
  ResourceLimitsConfig limits = Limits(64, 50, 5);
  limits.on_exceed = OnFailure::kAlert;
  EXPECT_EQ(ChooseLimitWays(limits, kAll), (LimitWays{LimitWay::kWatch, LimitWay::kWatch, LimitWay::kWatch}));
  EXPECT_THAT(Values(limits, kAll),
              ::testing::Contains(std::pair<const std::string, std::string>("memory.max", "max")));
}

TEST(LimitWays, AreNamedOneByOneWhereTheyDiffer) {
  EXPECT_EQ(LimitsEnforcement({}), "");
  EXPECT_EQ(LimitsEnforcement({LimitWay::kCgroup, LimitWay::kNone, LimitWay::kCgroup}), "cgroup");
  EXPECT_EQ(LimitsEnforcement({LimitWay::kNone, LimitWay::kWatch, LimitWay::kNone}), "watch");
  EXPECT_EQ(LimitsEnforcement({LimitWay::kCgroup, LimitWay::kWatch, LimitWay::kNone}), "memory=cgroup,cpu=watch");
  EXPECT_EQ(LimitsEnforcement({LimitWay::kWatch, LimitWay::kNone, LimitWay::kCgroup}), "memory=watch,processes=cgroup");
}

TEST(CgroupSettings, OfLimits) {
  EXPECT_EQ(Values(Limits(64, 50, 7), kAll), (std::map<std::string, std::string>{{"memory.max", "67108864"},
                                                                                 {"memory.swap.max", "0"},
                                                                                 {"memory.oom.group", "1"},
                                                                                 {"cpu.weight.nice", "0"},
                                                                                 {"cpu.max", "50000 100000"},
                                                                                 {"pids.max", "7"}}));
}

TEST(CgroupSettings, WithoutLimitsTakeBackWhatWasThere) {
  EXPECT_EQ(Values({}, kAll), (std::map<std::string, std::string>{{"memory.max", "max"},
                                                                  {"memory.swap.max", "max"},
                                                                  {"memory.oom.group", "0"},
                                                                  {"cpu.weight.nice", "0"},
                                                                  {"cpu.max", "max"},
                                                                  {"pids.max", "max"}}));
}

TEST(CgroupSettings, AreOfControllersThatAreThere) {
  EXPECT_EQ(Values(Limits(64, 50, 7), ParseControllers("pids")),
            (std::map<std::string, std::string>{{"pids.max", "7"}}));
  EXPECT_THAT(Values(Limits(64, 50, 7), {}), IsEmpty());
}

TEST(CgroupSettings, SetTheMemoryLimitLast) {
  const ResourceLimitsConfig limits = Limits(64, 0, 0);
  const CgroupControllers memory = ParseControllers("memory");
  EXPECT_STREQ(SettingsFor(limits, ChooseLimitWays(limits, memory), memory).back().file, "memory.max");
}

TEST(CgroupSettings, OfTheProcessorArePartsOfOneCore) {
  const auto cpu_max = [](double percent) { return Values(Limits(0, percent, 0), kAll)["cpu.max"]; };
  EXPECT_EQ(cpu_max(200), "200000 100000");
  EXPECT_EQ(cpu_max(1), "1000 100000");
  EXPECT_EQ(cpu_max(0.5), "5000 1000000");     // the kernel takes no quota under 1 ms
  EXPECT_EQ(cpu_max(0.0001), "1000 1000000");  // the least there is
}

TEST(CgroupSettings, KeepWhatNiceMeansBetweenServices) {
  ResourceLimitsConfig limits;
  limits.nice = 10;
  EXPECT_EQ(Values(limits, kAll)["cpu.weight.nice"], "10");
}

TEST(MemoryEvents, AreReadByTheirWholeName) {
  const MemoryEvents events = ParseMemoryEvents("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n");
  EXPECT_EQ(events, (MemoryEvents{.oom = 3, .oom_kill = 2}));
  EXPECT_EQ(ParseMemoryEvents(""), MemoryEvents{});
  EXPECT_EQ(ParseMemoryEvents("oom_kill 2\n"), (MemoryEvents{.oom = 0, .oom_kill = 2}));
  EXPECT_EQ(FlatKeyedValue("max 18446744073709551615", "max"), UINT64_MAX);
}

TEST(MemoryEvents, RiseFromWhatWasSeenOrFromNothing) {
  EXPECT_EQ(RiseOf({.oom = 1, .oom_kill = 2}, {.oom = 3, .oom_kill = 2}), (MemoryEvents{.oom = 2, .oom_kill = 0}));
  EXPECT_EQ(RiseOf({.oom = 5, .oom_kill = 5}, {.oom = 0, .oom_kill = 1}), (MemoryEvents{.oom = 0, .oom_kill = 1}));
}

TEST(MemoryEvents, SayWhoseMemoryRanOut) {
  EXPECT_EQ(OutOfMemoryText({.oom = 1, .oom_kill = 1}, 64), "out of memory (limit 64 MB)");
  EXPECT_EQ(OutOfMemoryText({.oom = 1, .oom_kill = 1}, 0.5), "out of memory (limit 0.5 MB)");
  const std::string above = "out of memory (the machine's, or that of a cgroup above: no limit of its own was reached)";
  EXPECT_EQ(OutOfMemoryText({.oom = 0, .oom_kill = 1}, 64), above);
  EXPECT_EQ(OutOfMemoryText({.oom = 1, .oom_kill = 1}, 0), above);
}

TEST(CgroupBase, IsWhereTheDaemonWasStarted) {
  EXPECT_EQ(CgroupBaseOf("/", "a1"), "");
  EXPECT_EQ(CgroupBaseOf("/system.slice/supervisord.service", "a1"), "/system.slice/supervisord.service");
}

TEST(CgroupBase, IsNotWithinWhatItOrAnEarlierDaemonMade) {
  EXPECT_EQ(CgroupBaseOf("/x/supervisord.a1.daemon", "a1"), "/x");
  EXPECT_EQ(CgroupBaseOf("/x/supervisord.a1/web", "a1"), "/x");
  EXPECT_EQ(CgroupBaseOf("/supervisord.a1/web/deeper", "a1"), "");
  EXPECT_EQ(CgroupBaseOf("/x/supervisord.b2.daemon", "a1"), "/x");  // beside the other daemon, not in its leaf
}

TEST(CgroupBase, OfAServiceOfAnotherDaemonIsThatServices) {
  EXPECT_EQ(CgroupBaseOf("/x/supervisord.b2/inner", "a1"), "/x/supervisord.b2/inner");
  EXPECT_EQ(CgroupBaseOf("/x/supervisord.a11/inner", "a1"), "/x/supervisord.a11/inner");
}

}  // namespace
}  // namespace supervisor
