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
  return {.id = instance.id(), .kind = kind, .message = std::move(message)};
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

void Supervisor::QueryServices(std::function<void(absl::StatusOr<std::vector<ServiceRow>>)> done) {
  loop_.Post(
      [this, done = std::move(done)] { files_.Post([&store = store_, done] { store.QueryServices({}, done); }); });
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
  }
  operations_.Add(Operations::Wanted::kUp, std::move(items), options.timeout,
                  [this, done = AfterRecords(std::move(done))](std::vector<ActionOutcome> outcomes) {
                    SayWhoIsWaitedFor(outcomes);
                    done(std::move(outcomes));
                  });
}

// What is stopped because somebody stopped it, or because it is not enabled, is started by a restart only where it is
// named plainly: `restart all` is about what is up. Takes the others from `instances` and returns their outcomes.
std::vector<Operations::Item> Supervisor::LeaveStopped(const std::vector<std::string>& targets,
                                                       std::vector<Instance*>& instances) {
  std::vector<Operations::Item> left;
  std::erase_if(instances, [&](const Instance* instance) {
    if (instance->machine().desired_up || IsNamedPlainly(targets, CandidateOf(*instance))) {
      return false;
    }
    left.push_back({.id = instance->id(),
                    .implied = false,
                    .outcome = Outcome(*instance, ActionOutcome::Kind::kUnchanged,
                                       fmt::format("left {}: only what is up is restarted (to start it: supervisorctl "
                                                   "start {})",
                                                   StateName(StateOf(instance->machine().phase)), instance->id()))});
    return true;
  });
  return left;
}

absl::Status Supervisor::Restart(const std::vector<std::string>& targets, const ActionOptions& options,
                                 ActionsDone done) {
  if (absl::Status refused = RefuseWhileStopping(); !refused.ok()) {
    return refused;
  }
  absl::StatusOr<std::vector<Instance*>> named = ResolveStaying(targets);
  if (!named.ok()) {
    return named.status();
  }
  std::vector<Operations::Item> items = LeaveStopped(targets, *named);
  StopJob job;
  for (Instance* instance : WithDependencies(*named)) {
    Enqueue(*instance, StartRequested{{.actor = "dependency", .reason = options.cause.reason}});
    items.push_back({.id = instance->id(), .implied = true, .outcome = {}});
  }
  const auto restart = [&](Instance* instance, bool implied) {
    Enqueue(*instance, RestartRequested{options.cause, true});
    job.members.push_back(instance->id());
    items.push_back({.id = instance->id(), .implied = implied, .is_dependent = implied, .outcome = {}});
  };
  for (Instance* instance : *named) {
    restart(instance, false);
  }
  if (options.with_dependents) {
    for (Instance* instance : WithDependents(*named)) {
      // One that is at rest has no connection to lose, and one that waits for its dependency comes up by itself.
      if (IsAlive(instance->machine().phase) && !removed_.contains(instance->id())) {
        restart(instance, true);
      }
    }
  }
  stop_jobs_.push_back(std::move(job));
  order_changed_ = true;
  std::vector<const Instance*> restarted;
  std::ranges::transform(items, std::back_inserter(restarted), [this](const auto& item) { return Find(item.id); });
  WaitForUp(std::move(items), options, SayingWhatGoesOn(RunsOf(restarted), std::move(done)));
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
  StopJob job;
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
    items.push_back({.id = instance->id(), .implied = implied, .is_dependent = implied, .outcome = std::move(outcome)});
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
  std::vector<const Instance*> stopped;
  std::ranges::transform(items, std::back_inserter(stopped), [this](const auto& item) { return Find(item.id); });
  operations_.Add(Operations::Wanted::kDown, std::move(items), options.timeout,
                  SayingWhatGoesOn(RunsOf(stopped), AfterRecords(std::move(done))));
  return absl::OkStatus();
}

// Starts of which nothing has come in time.
void Supervisor::SayWhoIsWaitedFor(std::vector<ActionOutcome>& outcomes) const {
  for (ActionOutcome& outcome : outcomes) {
    const Instance* instance = outcome.kind == ActionOutcome::Kind::kTimedOut ? Find(outcome.id) : nullptr;
    if (const std::string waits = instance != nullptr ? WaitsForWhat(*instance) : ""; !waits.empty()) {
      outcome.message += fmt::format("; it {}", waits);
    }
  }
}

std::optional<ActionOutcome> Supervisor::DownOutcome(const std::string& id) const {
  const Instance* instance = Find(id);
  if (instance == nullptr) {
    return ActionOutcome{.id = id, .kind = ActionOutcome::Kind::kDone, .message = ""};
  }
  const MachineState& machine = instance->machine();
  if (machine.desired_up) {
    return Outcome(*instance, ActionOutcome::Kind::kFailed,
                   fmt::format("it was started again meanwhile by {}", machine.cause.actor));
  }
  if (!machine.stuck.empty()) {
    return Outcome(*instance, ActionOutcome::Kind::kFailed, machine.stuck);
  }
  if (IsAlive(machine.phase)) {
    return std::nullopt;
  }
  return Outcome(*instance, ActionOutcome::Kind::kDone, machine.stop_note);
}

std::map<std::string, std::string> Supervisor::RunsOf(const std::vector<const Instance*>& instances) {
  std::map<std::string, std::string> runs;
  for (const Instance* instance : instances) {
    const std::string secret = instance->tree_view().mark.secret();
    if (!secret.empty() && instance->config().graceful_shutdown.kill_mode == KillMode::kTree) {
      runs.emplace(secret, instance->id());
    }
  }
  return runs;
}

std::vector<Stray> Supervisor::WhatGoesOn(std::map<std::string, std::string> runs) const {
  KnownRuns known{.main_pids = {}, .ended = std::move(runs), .have_cgroups = context_.cgroups != nullptr};
  for (const auto& [id, instance] : instances_) {
    if (instance->pid() != 0) {
      known.main_pids.insert(instance->pid());
      known.ended.erase(instance->tree_view().mark.secret());
    }
  }
  return FindStrays(known);
}

// One look for all of them: in a stop of hundreds one for each would take a third of the time. What nothing places may
// be anybody's, and is named once.
ActionsDone Supervisor::SayingWhatGoesOn(std::map<std::string, std::string> runs, ActionsDone done) const {
  return [this, runs = std::move(runs), done = std::move(done)](std::vector<ActionOutcome> outcomes) {
    std::vector<Stray> strays = WhatGoesOn(runs);
    for (ActionOutcome& outcome : outcomes) {
      if (outcome.kind == ActionOutcome::Kind::kDone || outcome.kind == ActionOutcome::Kind::kUnchanged) {
        outcome.left_running = DescribeStrays(strays, outcome.id);
        outcome.leaves_its_own = std::ranges::count(strays, outcome.id, &Stray::service) > 0;
        std::erase_if(strays, [](const Stray& stray) { return stray.service.empty(); });
      }
    }
    done(std::move(outcomes));
  };
}

std::string Supervisor::WhatGoesOnOf(const Instance& instance) const {
  return DescribeStrays(WhatGoesOn(RunsOf({&instance})), instance.id());
}

// One search serves all that have ended together. There is none while others go down: the answer names what they left.
std::string Supervisor::WhatEndLeaves(const Instance& instance) {
  if (!left_by_ends_) {
    const bool all_are_down =
        std::ranges::none_of(instances_, [](const auto& other) { return IsGoingDown(other.second->machine()); });
    std::vector<const Instance*> ended;
    for (const auto& [id, other] : instances_) {
      if (all_are_down && other->pid() == 0) {
        ended.push_back(other.get());
      }
    }
    left_by_ends_ = all_are_down ? WhatGoesOn(RunsOf(ended)) : std::vector<Stray>();
  }
  return DescribeStrays(*left_by_ends_, instance.id());
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
  StopJob job;
  const std::vector<Instance*> all = instances();
  for (Instance* instance : all) {
    instance->BeginShutdown();
    Enqueue(*instance, StopRequested{cause, true});
    job.members.push_back(instance->id());
    items.push_back({.id = instance->id(), .implied = false, .outcome = {}});
  }
  std::ranges::reverse(items);
  DrainEvents();
  stop_jobs_ = {std::move(job)};  // which all that go down are in
  order_changed_ = true;
  unsettled_ = true;
  const auto settle = [this, done = std::move(done)](std::vector<ActionOutcome> outcomes) {
    alerts_.Settle();  // what was wrong with services that are stopped now is over
    done(std::move(outcomes));
  };
  operations_.Add(Operations::Wanted::kDown, std::move(items), absl::ZeroDuration(),
                  SayingWhatGoesOn(RunsOf({all.begin(), all.end()}), settle));
}

void Supervisor::HurryShutdown() {
  for (Instance* instance : instances()) {
    Enqueue(*instance, StopHurried{});
  }
}

void Supervisor::ForgetAll() {
  HandRowsOn();
  usage_timer_->Disarm();
  first_usage_timer_->Disarm();
  std::vector<std::string> records;
  std::vector<std::function<void()>> discards;
  for (const auto& [id, instance] : instances_) {
    instance->WriteNoMore();
    records.push_back(instance->RecordPath());
    discards.push_back(instance->PrepareToDiscard());
  }
  context_.logs.CloseAll();
  context_.logs.Flush("", absl::ZeroDuration(), [discards = std::move(discards)] {  // in line behind that
    for (const std::function<void()>& discard : discards) {
      discard();
    }
  });
  files_.Post([records = std::move(records)] {
    for (const std::string& record : records) {
      unlink(record.c_str());
    }
  });
}

}  // namespace supervisor
