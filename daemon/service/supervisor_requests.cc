#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>
#include <variant>

#include "common/diag_log.h"
#include "common/signal_names.h"
#include "daemon/config/expand.h"
#include "daemon/loop/patience.h"
#include "daemon/service/supervisor.h"
#include "daemon/service/targets.h"

// What callers ask of the supervisor: start, stop, restart, signal, shutdown, reload.

namespace supervisor {
namespace {

constexpr absl::Duration kDatabasePatience = absl::Seconds(1);

TargetCandidate CandidateOf(const Instance& instance) {
  return {.id = instance.id(), .service_id = instance.config().id, .groups = instance.config().groups};
}

bool IsUp(const Instance& instance) {
  return instance.machine().phase == Phase::kRunning && instance.machine().desired_up;
}

ActionOutcome Outcome(const Instance& instance, ActionOutcome::Kind kind, std::string message) {
  return {.id = instance.id(), .kind = kind, .message = std::move(message), .implied = false};
}

}  // namespace

Instance* Supervisor::Find(std::string_view id) const {
  const auto found = instances_.find(id);
  return found == instances_.end() ? nullptr : found->second.get();
}

std::vector<Instance*> Supervisor::instances() const {
  std::vector<Instance*> all;
  for (const auto& [id, instance] : instances_) {
    all.push_back(instance.get());
  }
  std::ranges::stable_sort(all, {}, [](const Instance* instance) { return instance->config().priority; });
  return all;
}

absl::StatusOr<std::vector<Instance*>> Supervisor::Resolve(const std::vector<std::string>& targets) const {
  return ResolveAmong(targets, instances());
}

// What a reload has removed is on its way out: nobody brings it up again, and it has no other name to go by then.
absl::StatusOr<std::vector<Instance*>> Supervisor::ResolveStaying(const std::vector<std::string>& targets) const {
  std::vector<Instance*> staying = instances();
  std::erase_if(staying, [this](const Instance* instance) { return removed_.contains(instance->id()); });
  return ResolveAmong(targets, staying);
}

absl::StatusOr<std::vector<Instance*>> Supervisor::ResolveAmong(const std::vector<std::string>& targets,
                                                                const std::vector<Instance*>& all) const {
  std::vector<TargetCandidate> candidates;
  candidates.reserve(all.size());
  for (const Instance* instance : all) {
    candidates.push_back(CandidateOf(*instance));
  }
  const absl::StatusOr<std::vector<std::string>> ids = ResolveTargets(targets, candidates);
  if (!ids.ok()) {
    return ids.status();
  }
  std::vector<Instance*> resolved;
  for (const std::string& id : *ids) {
    resolved.push_back(Find(id));
  }
  return resolved;
}

absl::Status Supervisor::RefuseWhileStopping() const {
  return shutting_down_ ? absl::FailedPreconditionError("the daemon is stopping all services and will end")
                        : absl::OkStatus();
}

std::vector<Instance*> Supervisor::WithDependencies(const std::vector<Instance*>& named) const {
  const std::vector<OrderView> views = Views();
  std::set<std::string> services;
  for (const Instance* instance : named) {
    for (const std::string& id : DependenciesOf(views, instance->config().id)) {
      services.insert(id);
    }
  }
  std::vector<Instance*> implied;
  for (Instance* instance : instances()) {
    const Phase phase = instance->machine().phase;
    const bool down = phase == Phase::kStopped || phase == Phase::kBlocked || phase == Phase::kFailed ||
                      (IsAlive(phase) && !instance->machine().desired_up);
    if (services.contains(instance->config().id) && down && !removed_.contains(instance->id()) &&
        std::ranges::find(named, instance) == named.end()) {
      implied.push_back(instance);
    }
  }
  return implied;
}

std::vector<Instance*> Supervisor::WithDependents(const std::vector<Instance*>& named) const {
  const std::vector<OrderView> views = Views();
  std::set<std::string> services;
  for (const Instance* instance : named) {
    for (const std::string& id : DependentsOf(views, instance->config().id)) {
      services.insert(id);
    }
  }
  std::vector<Instance*> implied;
  for (Instance* instance : instances()) {
    if (services.contains(instance->config().id) && instance->machine().desired_up &&
        std::ranges::find(named, instance) == named.end()) {
      implied.push_back(instance);
    }
  }
  return implied;
}

void Supervisor::WhenRecorded(std::function<void()> then) {
  files_.Post([this, then = std::move(then)] {
    loop_.Post([this, then] {
      const WithPatience<std::monostate> answer(loop_, kDatabasePatience, "", [then](const auto&) { then(); });
      store_.WhenWritten([answer] { answer(std::monostate{}); });
    });
  });
}

void Supervisor::QueryEvents(Store::EventQuery query, std::function<void(absl::StatusOr<std::vector<EventRow>>)> done) {
  loop_.Post([this, query = std::move(query), done = std::move(done)] {
    files_.Post([&store = store_, query, done] { store.QueryEvents(query, done); });
  });
}

// An answer that says "started" or "stopped" comes after the pid file and the database say so too, and the log has the
// last words of what was stopped.
ActionsDone Supervisor::AfterRecords(ActionsDone done) {
  return [this, done = std::move(done)](std::vector<ActionOutcome> outcomes) {
    std::vector<std::string> ended;
    for (const ActionOutcome& outcome : outcomes) {
      const Instance* instance = Find(outcome.id);
      if (instance != nullptr && !IsAlive(instance->machine().phase)) {
        std::ranges::move(instance->streams(), std::back_inserter(ended));
      }
    }
    AfterOutput(ended, [this, done, outcomes = std::move(outcomes)] {
      loop_.Post([this, done, outcomes] { WhenRecorded([done, outcomes] { done(outcomes); }); });
    });
  };
}

absl::Status Supervisor::Start(const std::vector<std::string>& targets, const ActionOptions& options,
                               ActionsDone done) {
  if (absl::Status refused = RefuseWhileStopping(); !refused.ok()) {
    return refused;
  }
  const absl::StatusOr<std::vector<Instance*>> named = ResolveStaying(targets);
  if (!named.ok()) {
    return named.status();
  }
  std::vector<Operations::Item> items;
  for (Instance* instance : WithDependencies(*named)) {
    Enqueue(*instance, StartRequested{{.actor = "dependency", .reason = options.cause.reason}});
    items.push_back({.id = instance->id(), .implied = true, .outcome = {}});
  }
  for (Instance* instance : *named) {
    std::optional<ActionOutcome> outcome;
    if (IsUp(*instance)) {
      outcome = Outcome(*instance, ActionOutcome::Kind::kUnchanged, "already running");
    } else {
      Enqueue(*instance, StartRequested{options.cause});
    }
    items.push_back({.id = instance->id(), .implied = false, .outcome = std::move(outcome)});
  }
  WaitForUp(std::move(items), options, std::move(done));
  return absl::OkStatus();
}

void Supervisor::WaitForUp(std::vector<Operations::Item> items, const ActionOptions& options, ActionsDone done) {
  // Stepped first: an attempt that this request has superseded must not be taken for the one that it waits for.
  DrainEvents();
  for (Operations::Item& item : items) {
    const Instance* instance = Find(item.id);
    if (item.outcome || instance == nullptr) {
      continue;
    }
    if (!instance->machine().attempt_open) {
      item.outcome = IsUp(*instance) ? Outcome(*instance, ActionOutcome::Kind::kDone, "")
                                     : Outcome(*instance, ActionOutcome::Kind::kFailed, instance->machine().reason);
    } else if (options.no_wait) {
      item.outcome = Outcome(*instance, ActionOutcome::Kind::kAccepted, "");
    }
    if (item.outcome) {
      item.outcome->implied = item.implied;
    }
  }
  operations_.Add(Operations::Wanted::kUp, std::move(items), options.timeout, AfterRecords(std::move(done)));
}

absl::Status Supervisor::Restart(const std::vector<std::string>& targets, const ActionOptions& options,
                                 ActionsDone done) {
  if (absl::Status refused = RefuseWhileStopping(); !refused.ok()) {
    return refused;
  }
  const absl::StatusOr<std::vector<Instance*>> named = ResolveStaying(targets);
  if (!named.ok()) {
    return named.status();
  }
  std::vector<Operations::Item> items;
  for (Instance* instance : WithDependencies(*named)) {
    Enqueue(*instance, StartRequested{{.actor = "dependency", .reason = options.cause.reason}});
    items.push_back({.id = instance->id(), .implied = true, .outcome = {}});
  }
  for (Instance* instance : *named) {
    Enqueue(*instance, RestartRequested{options.cause});
    items.push_back({.id = instance->id(), .implied = false, .outcome = {}});
  }
  WaitForUp(std::move(items), options, std::move(done));
  return absl::OkStatus();
}

absl::Status Supervisor::Stop(const std::vector<std::string>& targets, const ActionOptions& options, ActionsDone done) {
  if (absl::Status refused = RefuseWhileStopping(); !refused.ok()) {
    return refused;
  }
  const absl::StatusOr<std::vector<Instance*>> named = Resolve(targets);
  if (!named.ok()) {
    return named.status();
  }
  std::vector<Operations::Item> items;
  StopJob job{.members = {}, .cause = options.cause};
  const auto add = [&](Instance* instance, bool implied) {
    std::optional<ActionOutcome> outcome;
    if (instance->machine().phase == Phase::kStopped) {
      outcome = Outcome(*instance, ActionOutcome::Kind::kUnchanged, "already stopped");
    } else {
      Enqueue(*instance, StopRequested{options.cause, true});
      job.members.push_back(instance->id());
      if (options.no_wait) {
        outcome = Outcome(*instance, ActionOutcome::Kind::kAccepted, "");
      }
    }
    items.push_back({.id = instance->id(), .implied = implied, .outcome = std::move(outcome)});
  };
  for (Instance* instance : WithDependents(*named)) {
    add(instance, true);
  }
  for (Instance* instance : *named) {
    add(instance, false);
  }
  DrainEvents();
  stop_jobs_.push_back(std::move(job));
  order_changed_ = true;
  unsettled_ = true;
  operations_.Add(Operations::Wanted::kDown, std::move(items), options.timeout, AfterRecords(std::move(done)));
  return absl::OkStatus();
}

std::optional<ActionOutcome> Supervisor::DownOutcome(const std::string& id) const {
  const Instance* instance = Find(id);
  if (instance == nullptr) {
    return ActionOutcome{.id = id, .kind = ActionOutcome::Kind::kDone, .message = "", .implied = false};
  }
  const MachineState& machine = instance->machine();
  if (machine.desired_up) {
    return Outcome(*instance, ActionOutcome::Kind::kFailed,
                   fmt::format("it was started again meanwhile by {}", machine.cause.actor));
  }
  if (IsAlive(machine.phase)) {
    return std::nullopt;
  }
  return Outcome(*instance, ActionOutcome::Kind::kDone, "");
}

absl::Status Supervisor::Signal(const std::vector<std::string>& targets, int signal, const Cause& cause,
                                ActionsDone done) {
  const absl::StatusOr<std::vector<Instance*>> named = Resolve(targets);
  if (!named.ok()) {
    return named.status();
  }
  std::vector<ActionOutcome> outcomes;
  for (Instance* instance : *named) {
    const absl::Status sent = instance->SendSignal(signal, cause);
    outcomes.push_back(Outcome(*instance, sent.ok() ? ActionOutcome::Kind::kDone : ActionOutcome::Kind::kFailed,
                               std::string(sent.message())));
    LogInfo("signal sent", {{"service", instance->id()},
                            {"signal", SignalName(signal)},
                            {"actor", cause.actor},
                            {"reason", cause.reason},
                            {"result", sent.ok() ? "ok" : std::string(sent.message())}});
  }
  loop_.Post([done = std::move(done), outcomes = std::move(outcomes)]() mutable { done(std::move(outcomes)); });
  return absl::OkStatus();
}

void Supervisor::Shutdown(const Cause& cause, ActionsDone done) {
  shutting_down_ = true;
  std::vector<Operations::Item> items;
  StopJob job{.members = {}, .cause = cause};
  for (Instance* instance : instances()) {
    Enqueue(*instance, StopRequested{cause, true});
    job.members.push_back(instance->id());
    items.push_back({.id = instance->id(), .implied = false, .outcome = {}});
  }
  std::ranges::reverse(items);
  DrainEvents();
  stop_jobs_.push_back(std::move(job));
  order_changed_ = true;
  unsettled_ = true;
  operations_.Add(Operations::Wanted::kDown, std::move(items), absl::ZeroDuration(),
                  [this, done = std::move(done)](std::vector<ActionOutcome> outcomes) {
                    alerts_.Settle();  // what was wrong with services that are stopped now is over
                    done(std::move(outcomes));
                  });
}

void Supervisor::ForgetAll() {
  HandRowsOn();
  usage_timer_->Disarm();
  first_usage_timer_->Disarm();
  std::vector<std::string> records;
  for (const auto& [id, instance] : instances_) {
    instance->WriteNoMore();
    records.push_back(instance->RecordPath());
  }
  context_.logs.CloseAll();
  files_.Post([records = std::move(records)] {
    for (const std::string& record : records) {
      unlink(record.c_str());
    }
  });
}

ReloadPlan Supervisor::Plan(const Config& wanted) const { return PlanReload(config_, wanted); }

ReloadPlan Supervisor::Reload(Config wanted, const Cause& cause) {
  ReloadPlan plan = PlanReload(config_, wanted);
  config_ = std::move(wanted);
  store_.SetRetention(config_.monitoring.metrics_retention, config_.monitoring.events_retention);
  alerts_.Configure(config_.monitoring.alerts, config_.notifications);
  if (options_.configure_notifications) {
    options_.configure_notifications(config_.notifications);
  }
  StopJob removal{.members = {}, .cause = cause};
  const auto remove = [&](const std::string& id) {
    removed_.insert(id);
    Enqueue(*Find(id), StopRequested{cause, true});
    removal.members.push_back(id);
  };
  for (const auto& [id, instance] : instances_) {
    const auto service = config_.services.find(instance->config().id);
    const bool stays = service != config_.services.end() && std::ranges::count(InstanceIds(service->second), id) > 0;
    if (!stays && !removed_.contains(id)) {
      remove(id);
    }
  }
  const auto start_enabled = [&](const ServiceConfig& service) {
    for (const std::string& id : InstanceIds(service)) {
      Instance* instance = Find(id);
      if (service.enabled && !instance->stopped_by_request() && instance->machine().phase == Phase::kStopped) {
        Enqueue(*instance, StartRequested{cause});
      }
    }
  };
  for (const ServiceChange& change : plan.added) {
    const ServiceConfig& service = config_.services.at(change.id);
    std::set<std::string> returning;
    for (const std::string& id : InstanceIds(service)) {
      if (Find(id) != nullptr) {
        returning.insert(id);
      }
    }
    AddInstances(service);
    for (const std::string& id : returning) {
      if (service.enabled) {
        Enqueue(*Find(id), StartRequested{cause});
      }
    }
    start_enabled(service);
  }
  for (const ServiceChange& change : plan.updated) {
    AddInstances(config_.services.at(change.id));
    if (std::ranges::count(change.keys, "enabled") > 0) {
      start_enabled(config_.services.at(change.id));
    }
  }
  for (const ServiceChange& change : plan.restarted) {
    const ServiceConfig& service = config_.services.at(change.id);
    std::set<std::string> known;
    for (const std::string& id : InstanceIds(service)) {
      if (Find(id) != nullptr) {
        known.insert(id);
      }
    }
    AddInstances(service);
    for (const std::string& id : known) {
      const MachineState& machine = Find(id)->machine();
      const bool only_count = change.keys.size() == 1 && change.keys.front() == "instances";
      if (machine.desired_up && !only_count) {
        Enqueue(*Find(id), RestartRequested{cause});
      }
    }
    start_enabled(service);
  }
  DrainEvents();
  if (!removal.members.empty()) {
    stop_jobs_.push_back(std::move(removal));
  }
  order_changed_ = true;
  unsettled_ = true;
  RecordOwnEvent("reloaded",
                 fmt::format("configuration reloaded: {} added, {} removed, {} restarted, {} updated",
                             plan.added.size(), plan.removed.size(), plan.restarted.size(), plan.updated.size()),
                 cause);
  return plan;
}

}  // namespace supervisor
