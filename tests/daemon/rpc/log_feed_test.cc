#include <unistd.h>

#include <map>
#include <set>
#include <string>

#include "daemon/rpc/caller_trace.h"
#include "daemon/rpc/feed_rule.h"
#include "daemon/rpc/named_targets.h"
#include "gtest/gtest.h"

namespace supervisor {
namespace {

using Follows = std::map<std::string, std::set<std::string>>;

TEST(FeedRule, ACallersOwnLogFeedsOnItself) {
  EXPECT_TRUE(FeedsOnItself({}, "ship", "ship"));
  EXPECT_FALSE(FeedsOnItself({}, "ship", "web"));
}

TEST(FeedRule, OverAnyNumberOfFollowers) {
  const Follows follows{{"b", {"a", "web"}}, {"c", {"b"}}, {"d", {"web"}}};
  EXPECT_TRUE(FeedsOnItself(follows, "a", "b")) << "b shows what a writes";
  EXPECT_TRUE(FeedsOnItself(follows, "a", "c")) << "c shows what b shows";
  EXPECT_FALSE(FeedsOnItself(follows, "a", "d"));
  EXPECT_FALSE(FeedsOnItself(follows, "c", "a")) << "nobody shows what c writes";
}

TEST(FeedRule, EndsWhereOthersFollowEachOther) {
  const Follows follows{{"b", {"c"}}, {"c", {"b"}}};
  EXPECT_FALSE(FeedsOnItself(follows, "a", "b"));
}

TEST(IsOfTree, ByAncestorsCgroupOrSession) {
  ProcessTreeView tree;
  tree.cgroup = "/sys/fs/cgroup/system.slice/supervisord.x/web";
  tree.sessions = {100};
  CallerTrace caller{.ancestors = {300, 200, 100}, .session = 300, .cgroup = "/user.slice"};
  EXPECT_TRUE(IsOfTree(caller, tree, 200));
  EXPECT_FALSE(IsOfTree(caller, tree, 400));
  EXPECT_FALSE(IsOfTree(caller, tree, 0));
  caller.cgroup = "/../supervisord.x/web";
  EXPECT_TRUE(IsOfTree(caller, tree, 0));
  caller.cgroup = "/supervisord.y/web";
  EXPECT_FALSE(IsOfTree(caller, tree, 0));
  caller.session = 100;
  EXPECT_TRUE(IsOfTree(caller, tree, 0));
  tree.reaped = {100};
  EXPECT_FALSE(IsOfTree(caller, tree, 0)) << "the number may be another process's by now";
}

TEST(IsOfTree, NothingIsKnownOfNobody) {
  EXPECT_FALSE(IsOfTree({}, {}, 0));
  EXPECT_FALSE(IsOfTree({}, {}, 12));
}

TEST(TraceCaller, NamesItsAncestors) {
  const CallerTrace trace = TraceCaller(getpid());
  ASSERT_GE(trace.ancestors.size(), 2u);
  EXPECT_EQ(trace.ancestors[0], getpid());
  EXPECT_EQ(trace.ancestors[1], getppid());
  EXPECT_EQ(trace.session, getsid(0));
}

TEST(IsInstanceOf, ANameOrItsNumber) {
  EXPECT_TRUE(IsInstanceOf("web", "web"));
  EXPECT_TRUE(IsInstanceOf("web:12", "web"));
  EXPECT_TRUE(IsInstanceOf("web:1", "web:1"));
  EXPECT_FALSE(IsInstanceOf("web:12", "web:1"));
  EXPECT_FALSE(IsInstanceOf("web:", "web"));
  EXPECT_FALSE(IsInstanceOf("web:x", "web"));
  EXPECT_FALSE(IsInstanceOf("website", "web"));
}

}  // namespace
}  // namespace supervisor
