#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "daemon/service/machine.h"

namespace supervisor {

// Who may start, and who may stop, when: priority classes and depends_on. Pure.
//
// A service waits for what it depends on, and, when it is started for the first time (not by the restart policy), for
// all of an earlier class that are on their way up. A dependency inherits the class of what depends on it when that is
// earlier; so the two rules cannot wait for each other in a circle (depends_on itself has none: the configuration was
// checked).
//
// The order is asked whenever anything has changed, so a look at a thousand instances has to cost next to nothing:
// views borrow from the instances, and all is decided in a few passes over them.
struct OrderView {
  std::string_view id;  // of the instance
  std::string_view service_id;
  int priority = 999;
  const std::vector<std::string>* depends_on = nullptr;  // service ids
  Phase phase = Phase::kStopped;
  bool desired_up = false;
  bool is_restart = false;
  std::string_view reason;
};

enum class Gate {
  kClosed,  // wait
  kOpen,
  kBlocked,  // a dependency is not going to be ready as things are
};
struct GateDecision {
  std::string_view id;  // borrowed from the views
  Gate gate = Gate::kClosed;
  std::string_view waits_for;  // kClosed: the instance
  std::string message;         // kBlocked: why
};

// For each instance that waits or is blocked: may it start? In the order of the views.
std::vector<GateDecision> DecideGates(const std::vector<OrderView>& views);

// Of the instances `members` (ids) that are to stop: those whose turn it is, since none of the members that depend on
// them, or that are of a later class, is alive any more. Those that are not alive are left out.
std::vector<std::string> DecideStops(const std::vector<OrderView>& views, const std::vector<std::string>& members);

// The ids of all services that depend on `service_id`, directly or not.
std::vector<std::string> DependentsOf(const std::vector<OrderView>& views, const std::string& service_id);
// And of all that it depends on.
std::vector<std::string> DependenciesOf(const std::vector<OrderView>& views, const std::string& service_id);

}  // namespace supervisor
