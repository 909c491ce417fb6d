#include "daemon/service/supervisor.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/diag_log.h"
#include "common/signal_names.h"
#include "daemon/config/expand.h"
#include "daemon/process/proc_fs.h"
#include "daemon/service/event_details.h"
#include "daemon/service/targets.h"

namespace supervisor {
namespace {

constexpr const char* kOwnId = "supervisor";
// A service shows what it uses soon after it has started, not only a whole interval later.
constexpr absl::Duration kFirstUsage = absl::Seconds(1);
constexpr size_t kUsageSlice = 32;

OrderView ViewOf(const Instance& instance) {
  const ServiceConfig& config = instance.config();
  const MachineState& machine = instance.machine();
  return {.id = instance.id(),
          .service_id = config.id,
          .priority = config.priority,
          .depends_on = config.depends_on,
          .phase = machine.phase,
          .desired_up = machine.desired_up,
          .is_restart = machine.is_restart,
          .reason = machine.reason};
}

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

Supervisor::Supervisor(Loop& loop, Worker& files, LogPump& logs, Checker& checker, Store& store, Options options,
                       Config config)
    : loop_(loop),
      files_(files),
      store_(store),
      options_(std::move(options)),
      config_(std::move(config)),
      context_{.loop = loop,
               .files = files,
               .lookups = lookups_,
               .logs = logs,
               .checker = checker,
               .cgroups = options_.cgroups,
               .observer = *this,
               .state_directory = options_.state_directory,
               .log_directory = config_.global.log_directory,
               .pid_directory = config_.global.pid_directory,
               .boot_id = BootId(),
               .inherited_environment = InheritedEnvironment(),
               .descriptor_limit = options_.descriptor_limit},
      operations_(loop),
      usage_timer_(loop.NewTimer([this] { SampleUsage(); })),
      first_usage_timer_(loop.NewTimer([this] { SampleUsage(); })) {}

Supervisor::~Supervisor() = default;

// ------------------------------------------------------------------------------------------------------------- boot

void Supervisor::AddInstances(const ServiceConfig& service) {
  const std::vector<std::string> ids = InstanceIds(service);
  for (size_t i = 0; i < ids.size(); ++i) {
    ServiceConfig config = ForInstance(service, static_cast<int>(i));
    if (Instance* known = Find(ids[i])) {
      removed_.erase(ids[i]);  // it was on its way out and comes back
      known->SetConfig(std::move(config));
    } else {
      instances_.emplace(ids[i], std::make_unique<Instance>(context_, ids[i], std::move(config)));
    }
  }
}

void Supervisor::Boot(const std::map<pid_t, WaitStatus>& reaped) {
  std::vector<std::string> ids{kOwnId};
  for (const auto& [id, service] : config_.services) {
    AddInstances(service);
  }
  for (const auto& [id, instance] : instances_) {
    ids.push_back(id);
    store_.UpdateService(RowOf(*instance));
    instance->Adopt(reaped);
  }
  store_.RemoveServicesExcept(std::move(ids));
  DrainEvents();
  for (const auto& [id, instance] : instances_) {
    const bool wanted = instance->config().enabled && !instance->stopped_by_request();
    if (wanted && instance->machine().phase == Phase::kStopped) {
      Enqueue(*instance, StartRequested{{.actor = kOwnId, .reason = {}}});
    }
  }
  usage_timer_->ArmAfter(config_.monitoring.metrics_interval);
}

// ----------------------------------------------------------------------------------------------------------- a turn

void Supervisor::Enqueue(Instance& instance, ServiceEvent event) {
  events_.push_back({instance.id(), std::move(event)});
}

void Supervisor::TurnEnded() {
  // Each round either moves some machine forward or ends the turn; the bound is there for the case that it does not.
  constexpr int kMostRounds = 10'000;
  bool any = false;
  for (int round = 0; round < kMostRounds; ++round) {
    const bool stepped = DrainEvents();
    const bool asked = AskOrder();
    if (!stepped && !asked) {
      break;
    }
    any = true;
  }
  if (any) {
    operations_.SettleDown([this](const std::string& id) { return DownOutcome(id); });
    EraseRemoved();
    PublishChanges();
  }
}

bool Supervisor::DrainEvents() {
  if (events_.empty()) {
    return false;
  }
  struct Pending {
    std::string id;
    ServiceAction action;
  };
  const MonoTime now = MonotonicNow();
  while (!events_.empty()) {
    std::vector<Pending> actions;
    std::set<std::string> touched;
    while (!events_.empty()) {
      const Queued queued = std::move(events_.front());
      events_.pop_front();
      Instance* instance = Find(queued.id);
      if (instance == nullptr) {
        continue;
      }
      for (ServiceAction& action : instance->StepEvent(queued.event, now)) {
        actions.push_back({queued.id, std::move(action)});
      }
      touched.insert(queued.id);
    }
    for (const Pending& pending : actions) {
      Find(pending.id)->Perform(pending.action);
    }
    for (const std::string& id : touched) {
      Find(id)->Settle();
    }
  }
  order_changed_ = true;
  return true;
}

bool Supervisor::AskOrder() {
  if (!std::exchange(order_changed_, false)) {
    return false;
  }
  const bool someone_waits = std::ranges::any_of(instances_, [](const auto& entry) {
    const Phase phase = entry.second->machine().phase;
    return phase == Phase::kWaiting || phase == Phase::kBlocked;
  });
  if (!someone_waits && stop_jobs_.empty()) {
    return false;
  }
  const std::vector<OrderView> views = Views();
  bool moved = AdvanceStopJobs(views);
  for (auto& [id, decision] : DecideGates(views)) {
    Instance* instance = Find(id);
    const MachineState& machine = instance->machine();
    switch (decision.gate) {
      case Gate::kOpen:
        Enqueue(*instance, GateOpened{});
        moved = true;
        break;
      case Gate::kBlocked:
        if (machine.phase != Phase::kBlocked || machine.reason != decision.message) {
          Enqueue(*instance, GateBlocked{decision.message});
          moved = true;
        }
        break;
      case Gate::kClosed:
        break;
    }
  }
  return moved;
}

bool Supervisor::AdvanceStopJobs(const std::vector<OrderView>& views) {
  bool moved = false;
  for (StopJob& job : stop_jobs_) {
    std::erase_if(job.members, [this](const std::string& id) {
      const Instance* instance = Find(id);
      return instance == nullptr || instance->machine().desired_up || !IsAlive(instance->machine().phase);
    });
    for (const std::string& id : DecideStops(views, job.members)) {
      Instance* instance = Find(id);
      if (instance->machine().phase == Phase::kRunning) {
        Enqueue(*instance, StopRequested{job.cause, false});
        moved = true;
      }
    }
  }
  std::erase_if(stop_jobs_, [](const StopJob& job) { return job.members.empty(); });
  return moved;
}

void Supervisor::EraseRemoved() {
  for (auto entry = removed_.begin(); entry != removed_.end();) {
    Instance* instance = Find(*entry);
    if (instance != nullptr && IsAlive(instance->machine().phase)) {
      ++entry;
      continue;
    }
    if (instance != nullptr) {
      ServiceRow row = RowOf(*instance);
      row.state = StateName(ServiceState::kStopped);
      store_.UpdateService(std::move(row));
      instance->Forget();
      auto node = instances_.extract(*entry);
      loop_.DestroyLater(std::move(node.mapped()));  // one of its own callbacks may have brought us here
      operations_.Removed(*entry);
    }
    entry = removed_.erase(entry);
  }
}

void Supervisor::PublishChanges() {
  for (const auto& [id, instance] : instances_) {
    if (instance->TakeChanged()) {
      store_.UpdateService(RowOf(*instance));
    }
  }
}

std::vector<OrderView> Supervisor::Views() const {
  std::vector<OrderView> views;
  views.reserve(instances_.size());
  for (const auto& [id, instance] : instances_) {
    views.push_back(ViewOf(*instance));
  }
  return views;
}

// --------------------------------------------------------------------------------------------------- what is reported

void Supervisor::OnRecord(Instance& instance, const RecordEvent& event) {
  LogInfo(event.message, {{"service", instance.id()}, {"event", event.type}, {"actor", event.cause.actor}});
  store_.LogEvent({.id = 0,
                   .service_id = instance.id(),
                   .event_type = event.type,
                   .timestamp = WallNow(),
                   .message = event.message,
                   .details = EventDetails(event, instance.pid()),
                   .actor = event.cause.actor});
  if (event.type == "started") {
    first_usage_timer_->ArmAfter(kFirstUsage);
  }
  const bool gave_up = instance.machine().phase == Phase::kFailed && event.type == "failed";
  if (gave_up && instance.config().critical && config_.global.exit_on_critical_failure && !shutting_down_ &&
      !std::exchange(critical_reported_, true)) {
    loop_.Post([this, why = fmt::format("critical service {} has failed: {}", instance.id(), event.message)] {
      options_.on_critical_failure(why);
    });
  }
}

void Supervisor::RecordOwnEvent(const std::string& type, const std::string& message, const Cause& cause) {
  LogInfo(message, {{"event", type}, {"actor", cause.actor}});
  RecordEvent event{.type = type, .message = message, .cause = cause, .exit = {}, .attempt = 0, .delay = {}};
  store_.LogEvent({.id = 0,
                   .service_id = kOwnId,
                   .event_type = type,
                   .timestamp = WallNow(),
                   .message = message,
                   .details = EventDetails(event, 0),
                   .actor = cause.actor});
}

void Supervisor::OnAttemptEnded(Instance& instance, const AttemptEnded& outcome) {
  operations_.AttemptEnded(instance.id(), outcome.success, outcome.message);
}

void Supervisor::OnHealthResult(Instance& instance, const CheckResult& result, Health verdict) {
  static_cast<void>(verdict);
  store_.RecordMetrics({.service_id = instance.id(),
                        .timestamp = result.finished,
                        .cpu_percent = std::nullopt,
                        .memory_mb = std::nullopt,
                        .health_status = result.success ? "healthy" : "unhealthy",
                        .response_time_ms = result.response_time_ms});
}

ServiceRow Supervisor::RowOf(const Instance& instance) const {
  const ServiceConfig& config = instance.config();
  const MachineState& machine = instance.machine();
  ServiceRow row{.id = instance.id(),
                 .name = config.name,
                 .description = config.description,
                 .state = StateName(StateOf(machine.phase)),
                 .pid = std::nullopt,
                 .port = std::nullopt,
                 .start_time = std::nullopt,
                 .uptime_seconds = 0,
                 .restart_count = machine.restart_count,
                 .last_restart = std::nullopt,
                 .priority = config.priority,
                 .critical = config.critical,
                 .auto_restart = config.restart_policy.mode != RestartMode::kNever};
  if (config.port != 0) {
    row.port = config.port;
  }
  if (instance.pid() != 0) {
    row.pid = instance.pid();
    row.start_time = instance.started();
    row.uptime_seconds = absl::ToInt64Seconds(WallNow() - instance.started());
  }
  if (instance.last_restart() != absl::InfinitePast()) {
    row.last_restart = instance.last_restart();
  }
  return row;
}

void Supervisor::SampleUsage() {
  std::vector<std::string> ids;
  for (const auto& [id, instance] : instances_) {
    if (instance->pid() != 0) {
      ids.push_back(id);
    }
  }
  usage_timer_->ArmAfter(config_.monitoring.metrics_interval);
  SampleSlice(std::move(ids), 0);
}

// In slices, so that a thousand services do not hold up the loop for a whole pass over /proc.
void Supervisor::SampleSlice(std::vector<std::string> ids, size_t from) {
  const MonoTime now = MonotonicNow();
  const absl::Time wall = WallNow();
  const size_t to = std::min(ids.size(), from + kUsageSlice);
  for (size_t i = from; i < to; ++i) {
    Instance* instance = Find(ids[i]);
    if (instance == nullptr || instance->pid() == 0) {
      continue;
    }
    instance->SampleUsage(now);
    store_.RecordMetrics({.service_id = ids[i],
                          .timestamp = wall,
                          .cpu_percent = instance->usage().cpu_percent,
                          .memory_mb = instance->usage().memory_mb,
                          .health_status = HealthName(instance->health().health()),
                          .response_time_ms = std::nullopt});
  }
  if (to < ids.size()) {
    loop_.Post([this, ids = std::move(ids), to]() mutable { SampleSlice(std::move(ids), to); });
  }
}

SystemHealth Supervisor::system_health() const {
  SystemHealth health = SystemHealth::kHealthy;
  for (const auto& [id, instance] : instances_) {
    const MachineState& machine = instance->machine();
    const ServiceState state = StateOf(machine.phase);
    const bool bad = state == ServiceState::kFailed || state == ServiceState::kBackoff ||
                     machine.phase == Phase::kBlocked || instance->health().health() == Health::kUnhealthy;
    if (bad) {
      health = std::max(health, instance->config().critical ? SystemHealth::kCritical : SystemHealth::kDegraded);
    }
  }
  return health;
}

// ---------------------------------------------------------------------------------------------------------- requests

Instance* Supervisor::Find(const std::string& id) const {
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
  const std::vector<Instance*> all = instances();
  std::vector<TargetCandidate> candidates;
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
  return shutting_down_ ? absl::UnavailableError("the daemon is stopping all services and will end")
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
    if (services.contains(instance->config().id) && down && std::ranges::find(named, instance) == named.end()) {
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

// An answer that says "started" or "stopped" comes after the pid file says so too.
ActionsDone Supervisor::AfterFiles(ActionsDone done) {
  return [this, done = std::move(done)](std::vector<ActionOutcome> outcomes) {
    files_.Post([&loop = loop_, done, outcomes = std::move(outcomes)]() mutable {
      loop.Post([done, outcomes = std::move(outcomes)]() mutable { done(std::move(outcomes)); });
    });
  };
}

absl::Status Supervisor::Start(const std::vector<std::string>& targets, const ActionOptions& options,
                               ActionsDone done) {
  if (absl::Status refused = RefuseWhileStopping(); !refused.ok()) {
    return refused;
  }
  const absl::StatusOr<std::vector<Instance*>> named = Resolve(targets);
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
      item.outcome = IsUp(*instance)
                         ? Outcome(*instance, ActionOutcome::Kind::kDone, "")
                         : Outcome(*instance, ActionOutcome::Kind::kFailed, instance->machine().reason);
    } else if (options.no_wait) {
      item.outcome = Outcome(*instance, ActionOutcome::Kind::kAccepted, "");
    }
    if (item.outcome) {
      item.outcome->implied = item.implied;
    }
  }
  operations_.Add(Operations::Wanted::kUp, std::move(items), options.timeout, AfterFiles(std::move(done)));
}

absl::Status Supervisor::Restart(const std::vector<std::string>& targets, const ActionOptions& options,
                                 ActionsDone done) {
  if (absl::Status refused = RefuseWhileStopping(); !refused.ok()) {
    return refused;
  }
  const absl::StatusOr<std::vector<Instance*>> named = Resolve(targets);
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

absl::Status Supervisor::Stop(const std::vector<std::string>& targets, const ActionOptions& options,
                              ActionsDone done) {
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
  operations_.Add(Operations::Wanted::kDown, std::move(items), options.timeout, AfterFiles(std::move(done)));
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
    const absl::Status sent = instance->SendSignal(signal);
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
  operations_.Add(Operations::Wanted::kDown, std::move(items), absl::ZeroDuration(), AfterFiles(std::move(done)));
  operations_.SettleDown([this](const std::string& id) { return DownOutcome(id); });
}

void Supervisor::ForgetAll() {
  for (const auto& [id, instance] : instances_) {
    instance->Forget();
  }
}

// ------------------------------------------------------------------------------------------------------------ reload

ReloadPlan Supervisor::Plan(const Config& wanted) const { return PlanReload(config_, wanted); }

ReloadPlan Supervisor::Reload(Config wanted, const Cause& cause) {
  ReloadPlan plan = PlanReload(config_, wanted);
  config_ = std::move(wanted);
  store_.SetRetention(config_.monitoring.metrics_retention, config_.monitoring.events_retention);
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
  RecordOwnEvent("reloaded",
                 fmt::format("configuration reloaded: {} added, {} removed, {} restarted, {} updated", plan.added.size(),
                             plan.removed.size(), plan.restarted.size(), plan.updated.size()),
                 cause);
  EraseRemoved();
  PublishChanges();
  return plan;
}

void Supervisor::ReportExit(pid_t pid, WaitStatus status) {
  for (const auto& [id, instance] : instances_) {
    instance->ReportExit(pid, status);
  }
}

}  // namespace supervisor
