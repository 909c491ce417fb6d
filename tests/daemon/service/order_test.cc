#include "daemon/service/order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <utility>

namespace supervisor {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

// Views borrow; this keeps what they borrow from.
template <typename Value>
const Value& Keep(Value value) {
  static std::deque<Value> kept;
  return kept.emplace_back(std::move(value));
}

OrderView View(const std::string& id, Phase phase, int priority = 999, std::vector<std::string> depends_on = {}) {
  return {.id = Keep(id),
          .service_id = Keep(id.substr(0, id.find(':'))),
          .priority = priority,
          .depends_on = &Keep(std::move(depends_on)),
          .phase = phase,
          .desired_up = phase != Phase::kStopped,
          .is_restart = false,
          .reason = {}};
}

GateDecision DecisionOf(const std::vector<OrderView>& views, std::string_view id) {
  const std::vector<GateDecision> decisions = DecideGates(views);
  const auto found = std::ranges::find(decisions, id, &GateDecision::id);
  return found == decisions.end() ? GateDecision{.id = "none", .gate = {}, .waits_for = {}, .message = {}} : *found;
}

Gate GateOf(const std::vector<OrderView>& views, std::string_view id) { return DecisionOf(views, id).gate; }

TEST(StartOrder, WhatIsIndependentStartsTogether) {
  const std::vector<OrderView> views = {View("a", Phase::kWaiting), View("b", Phase::kWaiting)};
  EXPECT_EQ(GateOf(views, "a"), Gate::kOpen);
  EXPECT_EQ(GateOf(views, "b"), Gate::kOpen);
}

TEST(StartOrder, ALaterClassWaitsForTheEarlierOne) {
  std::vector<OrderView> views = {View("db", Phase::kBecomingReady, 1), View("web", Phase::kWaiting, 2)};
  EXPECT_EQ(GateOf(views, "web"), Gate::kClosed);
  EXPECT_EQ(DecisionOf(views, "web").waits_for, "db");
  views[0].phase = Phase::kRunning;
  EXPECT_EQ(GateOf(views, "web"), Gate::kOpen);
  for (const Phase settled : {Phase::kFailed, Phase::kBackoff, Phase::kExited, Phase::kBlocked}) {
    views[0].phase = settled;
    EXPECT_EQ(GateOf(views, "web"), Gate::kOpen) << PhaseName(settled);
  }
}

TEST(StartOrder, ARestartByPolicyIsNotHeldByAClass) {
  std::vector<OrderView> views = {View("db", Phase::kBecomingReady, 1), View("web", Phase::kWaiting, 2)};
  views[1].is_restart = true;
  EXPECT_EQ(GateOf(views, "web"), Gate::kOpen);
  views[1].is_restart = false;
  views[0].is_restart = true;
  EXPECT_EQ(GateOf(views, "web"), Gate::kOpen) << "nor does it hold one";
}

TEST(StartOrder, ADependencyMustBeReady) {
  std::vector<OrderView> views = {View("db", Phase::kSpawning), View("web", Phase::kWaiting, 999, {"db"})};
  EXPECT_EQ(GateOf(views, "web"), Gate::kClosed);
  views[0].phase = Phase::kRunning;
  EXPECT_EQ(GateOf(views, "web"), Gate::kOpen);
  views[0].phase = Phase::kExited;
  EXPECT_EQ(GateOf(views, "web"), Gate::kOpen) << "a one-off that has done its work";
}

TEST(StartOrder, AFailedDependencyBlocksAndSaysWhy) {
  std::vector<OrderView> views = {View("db", Phase::kFailed), View("web", Phase::kWaiting, 999, {"db"})};
  views[0].reason = "killed by SIGSEGV";
  const GateDecision decision = DecisionOf(views, "web");
  EXPECT_EQ(decision.gate, Gate::kBlocked);
  EXPECT_EQ(decision.message, "dependency db has failed: killed by SIGSEGV");
  views[0].phase = Phase::kRunning;
  views[1].phase = Phase::kBlocked;
  EXPECT_EQ(GateOf(views, "web"), Gate::kOpen) << "it comes up by itself when the dependency recovers";
}

TEST(StartOrder, EveryInstanceOfADependencyCounts) {
  const std::vector<OrderView> views = {View("db:0", Phase::kRunning), View("db:1", Phase::kSpawning),
                                        View("web", Phase::kWaiting, 999, {"db"})};
  EXPECT_EQ(GateOf(views, "web"), Gate::kClosed);
}

TEST(StartOrder, PriorityAndDependencyNeverWaitForEachOther) {
  // early (1) depends on late (5); middle (3) stands between them. The dependency inherits the earlier class.
  std::vector<OrderView> views = {View("early", Phase::kWaiting, 1, {"late"}), View("middle", Phase::kWaiting, 3),
                                  View("late", Phase::kWaiting, 5)};
  EXPECT_EQ(GateOf(views, "early"), Gate::kClosed);
  EXPECT_EQ(GateOf(views, "middle"), Gate::kClosed);
  EXPECT_EQ(GateOf(views, "late"), Gate::kOpen);
}

TEST(StopOrder, DependentsGoFirst) {
  std::vector<OrderView> views = {View("db", Phase::kRunning), View("api", Phase::kRunning, 999, {"db"}),
                                  View("web", Phase::kRunning, 999, {"api"})};
  const std::vector<std::string> all = {"db", "api", "web"};
  EXPECT_THAT(DecideStops(views, all), ElementsAre("web"));
  views[2].phase = Phase::kTerminating;
  EXPECT_THAT(DecideStops(views, all), ElementsAre("web")) << "until it is gone";
  views[2].phase = Phase::kStopped;
  EXPECT_THAT(DecideStops(views, all), ElementsAre("api"));
  views[1].phase = Phase::kStopped;
  EXPECT_THAT(DecideStops(views, all), ElementsAre("db"));
  views[0].phase = Phase::kStopped;
  EXPECT_THAT(DecideStops(views, all), IsEmpty());
}

TEST(StopOrder, ADiamondGoesLevelByLevel) {
  std::vector<OrderView> views = {View("db", Phase::kRunning), View("a", Phase::kRunning, 999, {"db"}),
                                  View("b", Phase::kRunning, 999, {"db"}),
                                  View("web", Phase::kRunning, 999, {"a", "b"})};
  const std::vector<std::string> all = {"db", "a", "b", "web"};
  EXPECT_THAT(DecideStops(views, all), ElementsAre("web"));
  views[3].phase = Phase::kStopped;
  EXPECT_THAT(DecideStops(views, all), UnorderedElementsAre("a", "b"));
  views[1].phase = Phase::kStopped;
  EXPECT_THAT(DecideStops(views, all), ElementsAre("b"));
}

TEST(StopOrder, LaterClassesGoFirst) {
  std::vector<OrderView> views = {View("a", Phase::kRunning, 1), View("b", Phase::kRunning, 2),
                                  View("c", Phase::kRunning, 2)};
  EXPECT_THAT(DecideStops(views, {"a", "b", "c"}), UnorderedElementsAre("b", "c"));
}

TEST(StopOrder, OnlyMembersCount) {
  const std::vector<OrderView> views = {View("a", Phase::kRunning, 1), View("b", Phase::kRunning, 2)};
  EXPECT_THAT(DecideStops(views, {"a"}), ElementsAre("a"));
}

TEST(Graph, ReachesThroughOthers) {
  const std::vector<OrderView> views = {View("db", Phase::kRunning), View("api", Phase::kRunning, 999, {"db"}),
                                        View("web", Phase::kRunning, 999, {"api"})};
  EXPECT_THAT(DependentsOf(views, "db"), UnorderedElementsAre("api", "web"));
  EXPECT_THAT(DependenciesOf(views, "web"), UnorderedElementsAre("api", "db"));
  EXPECT_THAT(DependentsOf(views, "web"), IsEmpty());
}

}  // namespace
}  // namespace supervisor
