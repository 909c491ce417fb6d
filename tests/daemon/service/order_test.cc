#include "daemon/service/order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <set>
#include <string>
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

// One that is to go down, for good or to come back.
OrderView Going(OrderView view, bool comes_back = false) {
  view.going_down = true;
  view.comes_back = comes_back;
  view.desired_up = comes_back;
  return view;
}

void Gone(OrderView& view) {
  view.phase = view.comes_back ? Phase::kWaiting : Phase::kStopped;
  view.going_down = view.comes_back = false;
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

// One that waits until db has completed; db as it is in that phase.
std::vector<OrderView> AfterCompletion(Phase phase, std::string_view reason = "") {
  std::vector<OrderView> views = {View("db", phase), View("web", Phase::kWaiting, 999, {"db"})};
  views[0].reason = reason;
  views[1].completed = &Keep(std::set<std::string>{"db"});
  return views;
}

TEST(StartOrder, ConditionCompletedWaitsForAGoodEnd) {
  for (const Phase under_way : {Phase::kWaiting, Phase::kPreStart, Phase::kSpawning, Phase::kBecomingReady,
                                Phase::kRunning, Phase::kTerminating, Phase::kPostStop}) {
    const GateDecision decision = DecisionOf(AfterCompletion(under_way), "web");
    EXPECT_EQ(decision.gate, Gate::kClosed) << PhaseName(under_way);
    EXPECT_EQ(decision.waits_for, "db");
    EXPECT_EQ(decision.waits_until, WaitsFor::kCompleted);
  }
  EXPECT_EQ(GateOf(AfterCompletion(Phase::kExited), "web"), Gate::kOpen);
}

TEST(StartOrder, ConditionCompletedIsBlockedByAFailureAndSaysWhich) {
  EXPECT_EQ(DecisionOf(AfterCompletion(Phase::kFailed, "exited with code 3"), "web").message,
            "dependency db has not completed: it has failed: exited with code 3");
  EXPECT_EQ(DecisionOf(AfterCompletion(Phase::kBackoff, "exited with code 3; restart 1 of 3"), "web").message,
            "dependency db has not completed yet, and is in backoff: exited with code 3; restart 1 of 3");
  EXPECT_EQ(DecisionOf(AfterCompletion(Phase::kStopped), "web").message,
            "dependency db has not completed, and is stopped");
  for (const Phase phase : {Phase::kFailed, Phase::kBackoff, Phase::kStopped, Phase::kBlocked}) {
    EXPECT_EQ(GateOf(AfterCompletion(phase), "web"), Gate::kBlocked) << PhaseName(phase);
  }
}

TEST(StartOrder, WhatIsAlwaysStartedAgainNeverCompletes) {
  std::vector<OrderView> views = AfterCompletion(Phase::kRunning);
  views[0].runs_again = true;
  EXPECT_EQ(GateOf(views, "web"), Gate::kBlocked);
  EXPECT_NE(DecisionOf(views, "web").message.find("restart_policy.mode is always"), std::string::npos);
  views[0].phase = Phase::kExited;  // the policy was changed since
  EXPECT_EQ(GateOf(views, "web"), Gate::kOpen);
}

TEST(StartOrder, EveryInstanceHasToComplete) {
  std::vector<OrderView> views = {View("db:0", Phase::kExited), View("db:1", Phase::kRunning),
                                  View("web", Phase::kWaiting, 999, {"db"})};
  views[2].completed = &Keep(std::set<std::string>{"db"});
  EXPECT_EQ(DecisionOf(views, "web").waits_for, "db:1");
  views[1].phase = Phase::kExited;
  EXPECT_EQ(GateOf(views, "web"), Gate::kOpen);
}

TEST(StartOrder, WhatCouldConflictStartsWhenTheRemovedOneIsGone) {
  std::vector<OrderView> views = {View("old", Phase::kTerminating), View("new", Phase::kWaiting),
                                  View("other", Phase::kWaiting)};
  views[1].starts_after = &Keep(std::set<std::string>{"old"});
  EXPECT_EQ(DecisionOf(views, "new").waits_until, WaitsFor::kGone);
  EXPECT_EQ(DecisionOf(views, "new").waits_for, "old");
  EXPECT_EQ(GateOf(views, "other"), Gate::kOpen);
  views[0].phase = Phase::kStopped;
  EXPECT_EQ(GateOf(views, "new"), Gate::kOpen);
  EXPECT_EQ(GateOf({views[1]}, "new"), Gate::kOpen) << "erased";
}

TEST(StartOrder, SaysWhoseTurnIsWaitedFor) {
  std::vector<OrderView> views = {View("db", Phase::kBecomingReady, 1), View("web", Phase::kWaiting, 2)};
  EXPECT_EQ(WaitText(DecisionOf(views, "web"), views[0]),
            "waits for its turn: db has an earlier priority (1) and is starting");
  views = {View("db", Phase::kBecomingReady), View("web", Phase::kWaiting, 999, {"db"})};
  EXPECT_EQ(WaitText(DecisionOf(views, "web"), views[0]), "waits until db, which is starting, is ready (depends_on)");
  views = AfterCompletion(Phase::kRunning);
  EXPECT_EQ(WaitText(DecisionOf(views, "web"), views[0]),
            "waits until db, which is running, has completed (depends_on)");
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

TEST(StartOrder, ADependencyThatIsToBeRestartedIsWaitedFor) {
  std::vector<OrderView> views = {Going(View("db", Phase::kRunning), true), View("web", Phase::kWaiting, 999, {"db"})};
  EXPECT_EQ(GateOf(views, "web"), Gate::kClosed) << "it runs, and will be gone in a moment";
  EXPECT_EQ(DecisionOf(views, "web").waits_for, "db");
  views[0].phase = Phase::kTerminating;
  EXPECT_EQ(GateOf(views, "web"), Gate::kClosed);
  Gone(views[0]);
  EXPECT_EQ(GateOf(views, "web"), Gate::kClosed);
  views[0].phase = Phase::kRunning;
  EXPECT_EQ(GateOf(views, "web"), Gate::kOpen);
}

TEST(StartOrder, ADependencyWhoseTurnToStopIsToComeBlocks) {
  const std::vector<OrderView> views = {Going(View("db", Phase::kRunning)), View("web", Phase::kWaiting, 999, {"db"})};
  EXPECT_EQ(GateOf(views, "web"), Gate::kBlocked);
  EXPECT_EQ(DecisionOf(views, "web").message, "dependency db is being stopped");
}

TEST(StartOrder, ALaterClassWaitsForAnEarlierOneThatComesBack) {
  std::vector<OrderView> views = {Going(View("db", Phase::kTerminating, 1), true), View("web", Phase::kWaiting, 2)};
  EXPECT_EQ(GateOf(views, "web"), Gate::kClosed);
  views[0] = Going(View("db", Phase::kTerminating, 1));
  EXPECT_EQ(GateOf(views, "web"), Gate::kOpen) << "one that is stopped for good holds nobody";
}

TEST(StopOrder, DependentsGoFirst) {
  for (const bool comes_back : {false, true}) {
    std::vector<OrderView> views = {Going(View("db", Phase::kRunning), comes_back),
                                    Going(View("api", Phase::kRunning, 999, {"db"}), comes_back),
                                    Going(View("web", Phase::kRunning, 999, {"api"}), comes_back)};
    const std::vector<std::string> all = {"db", "api", "web"};
    EXPECT_THAT(DecideStops(views, all), ElementsAre("web"));
    views[2].phase = Phase::kTerminating;
    EXPECT_THAT(DecideStops(views, all), ElementsAre("web")) << "until it is gone";
    Gone(views[2]);
    EXPECT_THAT(DecideStops(views, all), ElementsAre("api"));
    Gone(views[1]);
    EXPECT_THAT(DecideStops(views, all), ElementsAre("db"));
    Gone(views[0]);
    EXPECT_THAT(DecideStops(views, all), IsEmpty());
  }
}

TEST(StopOrder, ADiamondGoesLevelByLevel) {
  std::vector<OrderView> views = {Going(View("db", Phase::kRunning)), Going(View("a", Phase::kRunning, 999, {"db"})),
                                  Going(View("b", Phase::kRunning, 999, {"db"})),
                                  Going(View("web", Phase::kRunning, 999, {"a", "b"}))};
  const std::vector<std::string> all = {"db", "a", "b", "web"};
  EXPECT_THAT(DecideStops(views, all), ElementsAre("web"));
  Gone(views[3]);
  EXPECT_THAT(DecideStops(views, all), UnorderedElementsAre("a", "b"));
  Gone(views[1]);
  EXPECT_THAT(DecideStops(views, all), ElementsAre("b"));
}

TEST(StopOrder, LaterClassesGoFirst) {
  const std::vector<OrderView> views = {Going(View("a", Phase::kRunning, 1)), Going(View("b", Phase::kRunning, 2)),
                                        Going(View("c", Phase::kRunning, 2))};
  EXPECT_THAT(DecideStops(views, {"a", "b", "c"}), UnorderedElementsAre("b", "c"));
}

TEST(StopOrder, ClassesCountAmongMembersAlone) {
  const std::vector<OrderView> views = {Going(View("a", Phase::kRunning, 1)), Going(View("b", Phase::kRunning, 2))};
  EXPECT_THAT(DecideStops(views, {"a"}), ElementsAre("a"));
}

TEST(StopOrder, ADependentThatSomebodyElseIsStoppingIsWaitedForToo) {
  std::vector<OrderView> views = {Going(View("db", Phase::kRunning)),
                                  Going(View("web", Phase::kTerminating, 999, {"db"}))};
  EXPECT_THAT(DecideStops(views, {"db"}), IsEmpty());
  views[1] = View("web", Phase::kRunning, 999, {"db"});
  EXPECT_THAT(DecideStops(views, {"db"}), ElementsAre("db")) << "one that runs on is not";
}

TEST(StopOrder, AMemberThatIsWantedAgainIsLeftOut) {
  const std::vector<OrderView> views = {Going(View("db", Phase::kRunning)), View("web", Phase::kRunning, 999, {"db"})};
  EXPECT_THAT(DecideStops(views, {"db", "web"}), ElementsAre("db"));
}

TEST(Graph, ReachesThroughOthers) {
  const std::vector<OrderView> views = {View("db", Phase::kRunning), View("api", Phase::kRunning, 999, {"db"}),
                                        View("web", Phase::kRunning, 999, {"api"})};
  EXPECT_THAT(DependentsOf(views, "db"), UnorderedElementsAre("api", "web"));
  EXPECT_THAT(DependenciesOf(views, "web"), UnorderedElementsAre("api", "db"));
  EXPECT_THAT(DependentsOf(views, "web"), IsEmpty());
}

// ------------------------------------------------------------------------------------------------------ restart gates

GateDecision RestartGate(const std::vector<OrderView>& views, const std::string& id) {
  const std::vector<GateDecision> decisions = DecideRestartGates(views, {id});
  EXPECT_EQ(decisions.size(), 1u);
  return decisions.empty() ? GateDecision{} : decisions.front();
}

TEST(RestartGates, WhatRunsGoesDownOnlyWhenItsDependencyIsUp) {
  const struct {
    Phase phase;
    Gate gate;
  } kCases[] = {{Phase::kRunning, Gate::kOpen},    {Phase::kExited, Gate::kOpen},    {Phase::kWaiting, Gate::kClosed},
                {Phase::kSpawning, Gate::kClosed}, {Phase::kFailed, Gate::kBlocked}, {Phase::kBackoff, Gate::kBlocked},
                {Phase::kBlocked, Gate::kBlocked}, {Phase::kStopped, Gate::kBlocked}};
  for (const auto& test : kCases) {
    EXPECT_EQ(RestartGate({View("db", test.phase), Going(View("web", Phase::kRunning, 999, {"db"}), true)}, "web").gate,
              test.gate)
        << PhaseName(test.phase);
  }
}

TEST(RestartGates, WhatGoesDownTogetherIsAskedForItsOwnDependencies) {
  std::vector<OrderView> views = {View("x", Phase::kFailed), View("db", Phase::kRunning, 999, {"x"}),
                                  Going(View("web", Phase::kRunning, 999, {"db"}), true)};
  EXPECT_EQ(RestartGate(views, "web").gate, Gate::kOpen) << "db runs on";
  views[1] = Going(views[1], true);
  EXPECT_EQ(RestartGate(views, "web").gate, Gate::kBlocked) << "db will not be restarted, so web is not either";
  views[0] = View("x", Phase::kRunning);
  EXPECT_EQ(RestartGate(views, "web").gate, Gate::kOpen) << "db waits for web to go";
  EXPECT_EQ(RestartGate(views, "db").gate, Gate::kOpen);
}

TEST(RestartGates, AStopIsNotAskedFor) {
  EXPECT_TRUE(
      DecideRestartGates({View("db", Phase::kFailed), Going(View("web", Phase::kRunning, 999, {"db"}))}, {"web"})
          .empty());
}

}  // namespace
}  // namespace supervisor
