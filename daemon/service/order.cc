#include "daemon/service/order.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>
#include <unordered_map>

namespace supervisor {
namespace {

struct ServiceNode {
  int priority = 999;
  int effective_priority = 999;
  std::vector<std::string> depends_on;
  std::vector<std::string> dependents;
  std::vector<const OrderView*> instances;
  bool wanted = false;
};

class Graph {
 public:
  explicit Graph(const std::vector<OrderView>& views) {
    for (const OrderView& view : views) {
      ServiceNode& node = nodes_[view.service_id];
      node.priority = view.priority;
      node.depends_on = view.depends_on;
      node.instances.push_back(&view);
      node.wanted = node.wanted || view.desired_up || IsAlive(view.phase);
    }
    for (auto& [id, node] : nodes_) {
      for (const std::string& dependency : node.depends_on) {
        if (const auto found = nodes_.find(dependency); found != nodes_.end()) {
          found->second.dependents.push_back(id);
        }
      }
    }
    std::set<std::string> done;
    for (const auto& [id, node] : nodes_) {
      Inherit(id, done);
    }
  }

  const ServiceNode* Find(const std::string& service_id) const {
    const auto found = nodes_.find(service_id);
    return found == nodes_.end() ? nullptr : &found->second;
  }

  int EffectivePriority(const OrderView& view) const { return nodes_.at(view.service_id).effective_priority; }

  std::vector<std::string> Reach(const std::string& from, std::vector<std::string> ServiceNode::*edges) const {
    std::vector<std::string> reached;
    std::set<std::string> seen{from};
    std::vector<std::string> pending{from};
    while (!pending.empty()) {
      const std::string id = pending.back();
      pending.pop_back();
      const ServiceNode* node = Find(id);
      if (node == nullptr) {
        continue;
      }
      for (const std::string& next : node->*edges) {
        if (seen.insert(next).second) {
          reached.push_back(next);
          pending.push_back(next);
        }
      }
    }
    return reached;
  }

 private:
  int Inherit(const std::string& id, std::set<std::string>& done) {
    ServiceNode& node = nodes_.at(id);
    if (!done.insert(id).second) {
      return node.effective_priority;
    }
    node.effective_priority = node.priority;
    for (const std::string& dependent : node.dependents) {
      const int inherited = Inherit(dependent, done);
      if (nodes_.at(dependent).wanted) {
        node.effective_priority = std::min(node.effective_priority, inherited);
      }
    }
    return node.effective_priority;
  }

  std::unordered_map<std::string, ServiceNode> nodes_;
};

// What a dependency's instance says to those that wait for it.
GateDecision AskDependency(const OrderView& dependency) {
  const auto blocked = [&](const char* how) {
    return GateDecision{Gate::kBlocked, dependency.reason.empty() ? fmt::format("dependency {} {}", dependency.id, how)
                                                                  : fmt::format("dependency {} {}: {}", dependency.id,
                                                                                how, dependency.reason)};
  };
  switch (StateOf(dependency.phase)) {
    case ServiceState::kRunning:
    case ServiceState::kExited:
      return {Gate::kOpen, {}};
    case ServiceState::kStarting:
      return {Gate::kClosed, fmt::format("waits for dependency {}", dependency.id)};
    case ServiceState::kStopping:
      return dependency.desired_up ? GateDecision{Gate::kClosed, fmt::format("waits for dependency {}", dependency.id)}
                                   : blocked("is being stopped");
    case ServiceState::kStopped:
      return blocked(dependency.desired_up ? "cannot start" : "is stopped");
    case ServiceState::kBackoff:
      return blocked("is in backoff");
    case ServiceState::kFailed:
      return blocked("has failed");
  }
  return {Gate::kClosed, {}};
}

GateDecision AskDependencies(const Graph& graph, const OrderView& view) {
  GateDecision decision{Gate::kOpen, {}};
  for (const std::string& id : view.depends_on) {
    const ServiceNode* node = graph.Find(id);
    if (node == nullptr) {
      return {Gate::kBlocked, fmt::format("dependency {} is not configured", id)};
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

}  // namespace

std::map<std::string, GateDecision> DecideGates(const std::vector<OrderView>& views) {
  std::map<std::string, GateDecision> decisions;
  const bool any = std::ranges::any_of(
      views, [](const OrderView& view) { return view.phase == Phase::kWaiting || view.phase == Phase::kBlocked; });
  if (!any) {
    return decisions;
  }
  const Graph graph(views);
  // The earliest class that is on its way up holds all later ones.
  int earliest = std::numeric_limits<int>::max();
  const OrderView* holder = nullptr;
  for (const OrderView& view : views) {
    if (IsFirstStart(view) && graph.EffectivePriority(view) < earliest) {
      earliest = graph.EffectivePriority(view);
      holder = &view;
    }
  }
  for (const OrderView& view : views) {
    if (view.phase != Phase::kWaiting && view.phase != Phase::kBlocked) {
      continue;
    }
    GateDecision decision = AskDependencies(graph, view);
    if (decision.gate == Gate::kOpen && !view.is_restart && graph.EffectivePriority(view) > earliest) {
      decision = {Gate::kClosed, fmt::format("waits for {} (priority {})", holder->id, earliest)};
    }
    decisions.emplace(view.id, std::move(decision));
  }
  return decisions;
}

std::vector<std::string> DecideStops(const std::vector<OrderView>& views, const std::vector<std::string>& members) {
  const Graph graph(views);
  const std::set<std::string> wanted(members.begin(), members.end());
  std::vector<const OrderView*> alive;
  for (const OrderView& view : views) {
    if (wanted.contains(view.id) && IsAlive(view.phase)) {
      alive.push_back(&view);
    }
  }
  int latest = std::numeric_limits<int>::min();
  for (const OrderView* view : alive) {
    latest = std::max(latest, graph.EffectivePriority(*view));
  }
  std::set<std::string> alive_services;
  for (const OrderView* view : alive) {
    alive_services.insert(view->service_id);
  }
  std::vector<std::string> turn;
  for (const OrderView* view : alive) {
    if (graph.EffectivePriority(*view) < latest) {
      continue;
    }
    const std::vector<std::string> dependents = graph.Reach(view->service_id, &ServiceNode::dependents);
    if (std::ranges::none_of(dependents, [&](const std::string& id) { return alive_services.contains(id); })) {
      turn.push_back(view->id);
    }
  }
  return turn;
}

std::vector<std::string> DependentsOf(const std::vector<OrderView>& views, const std::string& service_id) {
  return Graph(views).Reach(service_id, &ServiceNode::dependents);
}

std::vector<std::string> DependenciesOf(const std::vector<OrderView>& views, const std::string& service_id) {
  return Graph(views).Reach(service_id, &ServiceNode::depends_on);
}

}  // namespace supervisor
