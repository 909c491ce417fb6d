#include "daemon/service/order.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <unordered_map>
#include <unordered_set>

namespace supervisor {
namespace {

struct ServiceNode {
  std::string_view id;
  int priority = 999;
  std::optional<int> effective_priority;
  const std::vector<std::string>* depends_on = nullptr;
  std::vector<ServiceNode*> dependents;
  std::vector<const OrderView*> instances;
  bool wanted = false;
  bool stops = false;                          // one of its instances is going down
  std::optional<bool> has_stopping_dependent;  // at any distance
};

class Graph {
 public:
  explicit Graph(const std::vector<OrderView>& views) {
    nodes_.reserve(views.size());
    for (const OrderView& view : views) {
      ServiceNode& node = nodes_[view.service_id];
      node.id = view.service_id;
      node.priority = view.priority;
      node.depends_on = view.depends_on;
      node.instances.push_back(&view);
      node.wanted = node.wanted || view.desired_up || IsAlive(view.phase);
      node.stops = node.stops || view.going_down;
    }
    for (auto& [id, node] : nodes_) {
      if (node.depends_on == nullptr) {
        continue;
      }
      for (const std::string& dependency : *node.depends_on) {
        if (ServiceNode* found = Find(dependency)) {
          found->dependents.push_back(&node);
        }
      }
    }
  }

  ServiceNode* Find(std::string_view service_id) {
    const auto found = nodes_.find(service_id);
    return found == nodes_.end() ? nullptr : &found->second;
  }

  // The earliest class among its own and those of the wanted services that depend on it.
  int EffectivePriority(ServiceNode& node) {
    if (!node.effective_priority) {
      int earliest = node.priority;
      for (ServiceNode* dependent : node.dependents) {
        const int inherited = EffectivePriority(*dependent);
        if (dependent->wanted) {
          earliest = std::min(earliest, inherited);
        }
      }
      node.effective_priority = earliest;
    }
    return *node.effective_priority;
  }
  ServiceNode& NodeOf(const OrderView& view) { return nodes_.at(view.service_id); }

  bool HasStoppingDependent(ServiceNode& node) {
    if (!node.has_stopping_dependent) {
      node.has_stopping_dependent = std::ranges::any_of(node.dependents, [this](ServiceNode* dependent) {
        return dependent->stops || HasStoppingDependent(*dependent);
      });
    }
    return *node.has_stopping_dependent;
  }

  // What can be reached from a service over `next(node)`, which names services. Without the service itself.
  template <typename Next>
  std::vector<std::string> Reach(std::string_view from, const Next& next) {
    std::vector<std::string> reached;
    std::unordered_set<std::string_view> seen{from};
    std::vector<ServiceNode*> pending{Find(from)};
    while (!pending.empty()) {
      ServiceNode* node = pending.back();
      pending.pop_back();
      if (node == nullptr) {
        continue;
      }
      for (const std::string_view id : next(*node)) {
        if (seen.insert(id).second) {
          reached.emplace_back(id);
          pending.push_back(Find(id));
        }
      }
    }
    return reached;
  }

 private:
  std::unordered_map<std::string_view, ServiceNode> nodes_;  // addresses stay: a node-based map
};

GateDecision Open() { return {.gate = Gate::kOpen}; }

GateDecision Closed(const OrderView& other, WaitsFor waits_until) {
  return {.gate = Gate::kClosed, .waits_for = other.id, .waits_until = waits_until};
}

GateDecision Blocked(const OrderView& dependency, std::string_view how) {
  return {.gate = Gate::kBlocked,
          .message = dependency.reason.empty()
                         ? fmt::format("dependency {} {}", dependency.id, how)
                         : fmt::format("dependency {} {}: {}", dependency.id, how, dependency.reason)};
}

// What a dependency's instance says to those that wait for it to be ready.
GateDecision AskReady(const OrderView& dependency) {
  switch (StateOf(dependency.phase)) {
    case ServiceState::kRunning:
      if (dependency.going_down) {  // when its turn comes
        return dependency.desired_up ? Closed(dependency, WaitsFor::kReady) : Blocked(dependency, "is being stopped");
      }
      return Open();
    case ServiceState::kExited:
      return Open();
    case ServiceState::kStarting:
      return Closed(dependency, WaitsFor::kReady);
    case ServiceState::kStopping:
      return dependency.desired_up ? Closed(dependency, WaitsFor::kReady) : Blocked(dependency, "is being stopped");
    case ServiceState::kStopped:
      return Blocked(dependency, dependency.desired_up ? "cannot start" : "is stopped");
    case ServiceState::kBackoff:
      return Blocked(dependency, "is in backoff");
    case ServiceState::kFailed:
      return Blocked(dependency, "has failed");
  }
  return Closed(dependency, WaitsFor::kReady);
}

// And to those that wait for it to end as it should. In backoff it has failed, and is tried again: then what waits is
// blocked rather than on its way up, which would hold all later classes for as long.
GateDecision AskCompleted(const OrderView& dependency) {
  switch (StateOf(dependency.phase)) {
    case ServiceState::kExited:
      return Open();
    case ServiceState::kRunning:
    case ServiceState::kStarting:
      if (dependency.going_down && !dependency.desired_up) {  // when its turn comes
        return Blocked(dependency, "is being stopped, and has not completed");
      }
      if (dependency.runs_again) {
        return {.gate = Gate::kBlocked,
                .message = fmt::format("dependency {} never completes: its restart_policy.mode is always, so it is "
                                       "started again whenever it ends (expected on-failure or never)",
                                       dependency.id)};
      }
      return Closed(dependency, WaitsFor::kCompleted);
    case ServiceState::kStopping:
      return dependency.desired_up ? Closed(dependency, WaitsFor::kCompleted)
                                   : Blocked(dependency, "is being stopped, and has not completed");
    case ServiceState::kStopped:
      return Blocked(dependency, dependency.desired_up ? "cannot start" : "has not completed, and is stopped");
    case ServiceState::kBackoff:
      return Blocked(dependency, "has not completed yet, and is in backoff");
    case ServiceState::kFailed:
      return Blocked(dependency, "has not completed: it has failed");
  }
  return Closed(dependency, WaitsFor::kCompleted);
}

GateDecision AskDependencies(Graph& graph, const OrderView& view) {
  GateDecision decision = Open();
  if (view.depends_on == nullptr) {
    return decision;
  }
  for (const std::string& id : *view.depends_on) {
    const ServiceNode* node = graph.Find(id);
    if (node == nullptr) {
      return {.gate = Gate::kBlocked, .message = fmt::format("dependency {} is not configured", id)};
    }
    const bool must_complete = view.completed != nullptr && view.completed->contains(id);
    for (const OrderView* instance : node->instances) {
      GateDecision answer = must_complete ? AskCompleted(*instance) : AskReady(*instance);
      if (answer.gate == Gate::kBlocked) {
        return answer;
      }
      if (answer.gate == Gate::kClosed && decision.gate == Gate::kOpen) {
        decision = std::move(answer);
      }
    }
  }
  return decision;
}

// Its start, under way or to come, holds those of later classes.
bool HoldsLaterClasses(const OrderView& view) {
  return view.comes_back || (IsComingUp(view.phase) && view.desired_up && !view.is_restart);
}

// The same of an instance that runs and is to go down to come up again: see DecideRestartGates. depends_on has no
// circles, so this ends.
GateDecision AskDependenciesOfRunning(Graph& graph, const OrderView& view) {
  GateDecision decision = Open();
  if (view.depends_on == nullptr) {
    return decision;
  }
  for (const std::string& id : *view.depends_on) {
    const ServiceNode* node = graph.Find(id);
    if (node == nullptr) {
      continue;  // a reload has removed it: the start will say so
    }
    const bool must_complete = view.completed != nullptr && view.completed->contains(id);
    for (const OrderView* instance : node->instances) {
      const bool goes_down_later = instance->going_down && StateOf(instance->phase) == ServiceState::kRunning;
      GateDecision answer = goes_down_later ? AskDependenciesOfRunning(graph, *instance)
                            : must_complete ? AskCompleted(*instance)
                                            : AskReady(*instance);
      if (answer.gate == Gate::kBlocked) {
        return answer;
      }
      if (answer.gate == Gate::kClosed && decision.gate == Gate::kOpen) {
        decision = std::move(answer);
      }
    }
  }
  return decision;
}

// Of those that must have gone before it starts, one that has not.
const OrderView* AliveBefore(const std::vector<OrderView>& views, const OrderView& waiting) {
  if (waiting.starts_after == nullptr || waiting.starts_after->empty()) {
    return nullptr;
  }
  const auto found = std::ranges::find_if(views, [&](const OrderView& view) {
    return IsAlive(view.phase) && waiting.starts_after->contains(std::string(view.id));
  });
  return found == views.end() ? nullptr : &*found;
}

bool AwaitsItsGate(const OrderView& view) { return view.phase == Phase::kWaiting || view.phase == Phase::kBlocked; }

}  // namespace

std::vector<GateDecision> DecideGates(const std::vector<OrderView>& views) {
  std::vector<GateDecision> decisions;
  if (std::ranges::none_of(views, AwaitsItsGate)) {
    return decisions;
  }
  Graph graph(views);
  int earliest = std::numeric_limits<int>::max();
  const OrderView* holder = nullptr;
  for (const OrderView& view : views) {
    if (HoldsLaterClasses(view) && graph.EffectivePriority(graph.NodeOf(view)) < earliest) {
      earliest = graph.EffectivePriority(graph.NodeOf(view));
      holder = &view;
    }
  }
  for (const OrderView& view : views) {
    if (!AwaitsItsGate(view)) {
      continue;
    }
    GateDecision decision = AskDependencies(graph, view);
    if (decision.gate == Gate::kOpen && !view.is_restart && graph.EffectivePriority(graph.NodeOf(view)) > earliest) {
      decision = Closed(*holder, WaitsFor::kPriority);
    }
    if (const OrderView* leaving = decision.gate == Gate::kOpen ? AliveBefore(views, view) : nullptr) {
      decision = Closed(*leaving, WaitsFor::kGone);
    }
    decision.id = view.id;
    decisions.push_back(std::move(decision));
  }
  return decisions;
}

std::string WaitText(const GateDecision& decision, const OrderView& other) {
  const bool awaits_its_turn = StateOf(other.phase) == ServiceState::kRunning && other.going_down;
  const char* state = awaits_its_turn ? "about to go down" : StateName(StateOf(other.phase));
  switch (decision.waits_until) {
    case WaitsFor::kReady:
      return fmt::format("waits until {}, which is {}, is ready (depends_on)", other.id, state);
    case WaitsFor::kCompleted:
      return fmt::format("waits until {}, which is {}, has completed (depends_on)", other.id, state);
    case WaitsFor::kGone:
      return fmt::format("waits until {}, which was removed and is {}, is gone", other.id, state);
    case WaitsFor::kPriority:
      return fmt::format("waits for its turn: {} has an earlier priority ({}) and is {}", other.id, other.priority,
                         state);
  }
  return "";
}

std::vector<std::string> DecideStops(const std::vector<OrderView>& views, const std::vector<std::string>& members) {
  Graph graph(views);
  const std::unordered_set<std::string_view> wanted(members.begin(), members.end());
  std::vector<const OrderView*> going;
  int latest = std::numeric_limits<int>::min();
  for (const OrderView& view : views) {
    if (view.going_down && wanted.contains(view.id)) {
      going.push_back(&view);
      latest = std::max(latest, graph.EffectivePriority(graph.NodeOf(view)));
    }
  }
  std::vector<std::string> turn;
  for (const OrderView* view : going) {
    ServiceNode& node = graph.NodeOf(*view);
    if (graph.EffectivePriority(node) == latest && !graph.HasStoppingDependent(node)) {
      turn.emplace_back(view->id);
    }
  }
  return turn;
}

std::vector<GateDecision> DecideRestartGates(const std::vector<OrderView>& views, const std::vector<std::string>& ids) {
  std::vector<GateDecision> decisions;
  Graph graph(views);
  const std::unordered_set<std::string_view> wanted(ids.begin(), ids.end());
  for (const OrderView& view : views) {
    if (view.comes_back && wanted.contains(view.id)) {
      GateDecision decision = AskDependenciesOfRunning(graph, view);
      decision.id = view.id;
      decisions.push_back(std::move(decision));
    }
  }
  return decisions;
}

std::vector<std::string> DependentsOf(const std::vector<OrderView>& views, const std::string& service_id) {
  return Graph(views).Reach(service_id, [](const ServiceNode& node) {
    std::vector<std::string_view> ids;
    for (const ServiceNode* dependent : node.dependents) {
      ids.push_back(dependent->id);
    }
    return ids;
  });
}

std::vector<std::string> DependenciesOf(const std::vector<OrderView>& views, const std::string& service_id) {
  return Graph(views).Reach(service_id, [](const ServiceNode& node) {
    return node.depends_on == nullptr ? std::vector<std::string_view>()
                                      : std::vector<std::string_view>(node.depends_on->begin(), node.depends_on->end());
  });
}

}  // namespace supervisor
