#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/service/machine.h"

namespace supervisor {

// Who may start, and who may stop, when: priority classes and depends_on. Pure.
//
// A service waits for what it depends on (to be ready, or to have completed: see DependsOn), for what a reload removes
// and it could conflict with, and, when it is started for the first time (not by the restart policy), for all of an
// earlier class that are on their way up, or on their way down to come up again. A dependency inherits the class of
// what depends on it when that is earlier; so the two rules cannot wait for each other in a circle (depends_on itself
// has none: the configuration was checked).
//
// The order is asked whenever anything has changed, so a look at a thousand instances has to cost next to nothing:
// views borrow from the instances, and all is decided in a few passes over them.
struct OrderView {
  std::string_view id;  // of the instance
  std::string_view service_id;
  int priority = 999;
  const std::vector<std::string>* depends_on = nullptr;  // service ids
  const std::set<std::string>* completed = nullptr;      // those of depends_on that must have completed
  bool runs_again = false;                               // when it has ended well: so it never completes
  const std::set<std::string>* starts_after = nullptr;   // instance ids: it starts when none of them is alive
  Phase phase = Phase::kStopped;
  bool desired_up = false;
  bool is_restart = false;
  bool going_down = false;  // IsGoingDown (machine.h)
  bool comes_back = false;  // ComesBack
  std::string_view reason;
};

enum class Gate {
  kClosed,  // wait
  kOpen,
  kBlocked,  // a dependency is not going to be ready as things are
};
enum class WaitsFor { kReady, kCompleted, kGone, kPriority };
struct GateDecision {
  std::string_view id = {};  // borrowed from the views
  Gate gate = Gate::kClosed;
  std::string_view waits_for = {};          // kClosed: the instance
  WaitsFor waits_until = WaitsFor::kReady;  // kClosed: what it has to become
  std::string message = {};                 // kBlocked: why
};

// For each instance that waits or is blocked: may it start? In the order of the views.
std::vector<GateDecision> DecideGates(const std::vector<OrderView>& views);

// For people: "waits for db, which is starting (depends_on)". Requires a closed gate; `other` is the one that it waits
// for.
std::string WaitText(const GateDecision& decision, const OrderView& other);

// Of the instances `members` (ids) that go down together: those whose turn it is, since none that depends on them is on
// its way down any more (a member or not), and no member of a later class is. Members that are not going down are left
// out.
std::vector<std::string> DecideStops(const std::vector<OrderView>& views, const std::vector<std::string>& members);

// For each of those of `ids` that run and are to be restarted: may it go down? Not before what it depends on is up, and
// not at all (kBlocked) while that is not going to be: it could not come up again. What goes down together with it, and
// waits for it to do so, is asked for its own dependencies instead.
std::vector<GateDecision> DecideRestartGates(const std::vector<OrderView>& views, const std::vector<std::string>& ids);

// The ids of all services that depend on `service_id`, directly or not.
std::vector<std::string> DependentsOf(const std::vector<OrderView>& views, const std::string& service_id);
// And of all that it depends on.
std::vector<std::string> DependenciesOf(const std::vector<OrderView>& views, const std::string& service_id);

}  // namespace supervisor
