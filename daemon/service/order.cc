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
  bool stops = false;                          // DecideStops: one of its instances is to stop and alive
  std::optional<bool> has_stopping_dependent;  // likewise: at any distance
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

// What a dependency's instance says to those that wait for it.
GateDecision AskDependency(const OrderView& dependency) {
  GateDecision open{.id = {}, .gate = Gate::kOpen, .waits_for = {}, .message = {}};
  GateDecision closed{.id = {}, .gate = Gate::kClosed, .waits_for = dependency.id, .message = {}};
  const auto blocked = [&](const char* how) {
    return GateDecision{.id = {},
                        .gate = Gate::kBlocked,
                        .waits_for = {},
                        .message = dependency.reason.empty()
                                       ? fmt::format("dependency {} {}", dependency.id, how)
                                       : fmt::format("dependency {} {}: {}", dependency.id, how, dependency.reason)};
  };
  switch (StateOf(dependency.phase)) {
    case ServiceState::kRunning:
    case ServiceState::kExited:
      return open;
    case ServiceState::kStarting:
      return closed;
    case ServiceState::kStopping:
      return dependency.desired_up ? closed : blocked("is being stopped");
    case ServiceState::kStopped:
      return blocked(dependency.desired_up ? "cannot start" : "is stopped");
    case ServiceState::kBackoff:
      return blocked("is in backoff");
    case ServiceState::kFailed:
      return blocked("has failed");
  }
  return closed;
}

GateDecision AskDependencies(Graph& graph, const OrderView& view) {
  GateDecision decision{.id = {}, .gate = Gate::kOpen, .waits_for = {}, .message = {}};
  if (view.depends_on == nullptr) {
    return decision;
  }
  for (const std::string& id : *view.depends_on) {
    const ServiceNode* node = graph.Find(id);
    if (node == nullptr) {
      return {.id = {},
              .gate = Gate::kBlocked,
              .waits_for = {},
              .message = fmt::format("dependency {} is not configured", id)};
    }
    for (const OrderView* instance : node->instances) {
      GateDecision answer = AskDependency(*instance);
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

bool IsFirstStart(const OrderView& view) { return IsComingUp(view.phase) && view.desired_up && !view.is_restart; }

bool AwaitsItsGate(const OrderView& view) { return view.phase == Phase::kWaiting || view.phase == Phase::kBlocked; }

}  // namespace

std::vector<GateDecision> DecideGates(const std::vector<OrderView>& views) {
  std::vector<GateDecision> decisions;
  if (std::ranges::none_of(views, AwaitsItsGate)) {
    return decisions;
  }
  Graph graph(views);
  // The earliest class that is on its way up holds all later ones.
  int earliest = std::numeric_limits<int>::max();
  const OrderView* holder = nullptr;
  for (const OrderView& view : views) {
    if (IsFirstStart(view) && graph.EffectivePriority(graph.NodeOf(view)) < earliest) {
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
      decision.gate = Gate::kClosed;
      decision.waits_for = holder->id;
    }
    decision.id = view.id;
    decisions.push_back(std::move(decision));
  }
  return decisions;
}

std::vector<std::string> DecideStops(const std::vector<OrderView>& views, const std::vector<std::string>& members) {
  Graph graph(views);
  const std::unordered_set<std::string_view> wanted(members.begin(), members.end());
  std::vector<const OrderView*> alive;
  int latest = std::numeric_limits<int>::min();
  for (const OrderView& view : views) {
    if (IsAlive(view.phase) && wanted.contains(view.id)) {
      alive.push_back(&view);
      graph.NodeOf(view).stops = true;
      latest = std::max(latest, graph.EffectivePriority(graph.NodeOf(view)));
    }
  }
  std::vector<std::string> turn;
  for (const OrderView* view : alive) {
    ServiceNode& node = graph.NodeOf(*view);
    if (graph.EffectivePriority(node) == latest && !graph.HasStoppingDependent(node)) {
      turn.emplace_back(view->id);
    }
  }
  return turn;
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
