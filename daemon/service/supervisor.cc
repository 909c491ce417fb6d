#include "daemon/service/supervisor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "common/atomic_file.h"
#include "common/diag_log.h"
#include "common/fail_point.h"
#include "common/signal_names.h"
#include "daemon/config/expand.h"
#include "daemon/process/proc_fs.h"
#include "daemon/service/event_details.h"
#include "daemon/service/targets.h"

namespace supervisor {
namespace {

constexpr const char* kOwnId = "supervisor";
constexpr size_t kMostLookups = 32;  // so many may hang before the next one waits for them

Environment EnvironmentOfServices(const std::string& socket) {
  Environment environment = InheritedEnvironment();
  SetVariable(environment, "SUPERVISOR_SOCKET", socket);
  return environment;
}

OrderView ViewOf(const Instance& instance) {
  const ServiceConfig& config = instance.config();
  const MachineState& machine = instance.machine();
  return {.id = instance.id(),
          .service_id = config.id,
          .priority = config.priority,
          .depends_on = &config.depends_on,
          .completed = &config.depends_on_completed,
          .runs_again = config.restart_policy.mode == RestartMode::kAlways,
          .starts_after = &instance.starts_after(),
          .phase = machine.phase,
          .desired_up = machine.desired_up,
          .is_restart = machine.is_restart,
          .going_down = IsGoingDown(machine),
          .comes_back = ComesBack(machine),
          .reason = machine.reason};
}

// The ids of which an earlier daemon has left a record.
std::set<std::string> RecordedInstances(const std::string& directory) {
  constexpr std::string_view kSuffix = ".record";
  std::set<std::string> ids;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.ends_with(kSuffix)) {
      ids.insert(name.substr(0, name.size() - kSuffix.size()));
    }
  }
  return ids;
}

}  // namespace

Supervisor::Supervisor(Loop& loop, Worker& files, LogPump& logs, Checker& checker, Store& store, Options options,
                       Config config)
    : loop_(loop),
      files_(files),
      store_(store),
      options_(std::move(options)),
      config_(std::move(config)),
      lookups_(loop, kMostLookups),
      context_{.loop = loop,
               .files = files,
               .removals = removals_,
               .lookups = lookups_,
               .logs = logs,
               .checker = checker,
               .cgroups = options_.cgroups,
               .births = options_.births,
               .held = options_.held,
               .observer = *this,
               .discard_output = options_.discard_output,
               .state_directory = options_.state_directory,
               .log_directory = config_.global.log_directory,
               .pid_directory = config_.global.pid_directory,
               .boot = CurrentBoot(),
               .inherited_environment = EnvironmentOfServices(options_.socket),
               .descriptor_limit = options_.descriptor_limit,
               .descriptors = *options_.descriptors},
      operations_(loop),
      alerts_(loop, store,
              {.subjects = [this] { return AlertSubjects(); },
               .notify =
                   [this](const Alert& alert, const std::vector<std::string>& labels) {
                     if (options_.notify) {
                       options_.notify(alert, labels);
                     }
                   }}),
      usage_timer_(loop.NewTimer([this] { SampleUsage(); })),
      first_usage_timer_(loop.NewTimer([this] { SampleFirstUsage(); })),
      measuring_(loop, 1) {}

Supervisor::~Supervisor() { last_lines_->Finish(); }  // what it calls refers to the store

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

// An earlier daemon, with another configuration, has left it running: it goes the way of one that a reload removes.
void Supervisor::AddOrphan(const std::string& id) {
  ServiceConfig config;
  config.id = id;
  config.name = id;
  config.enabled = false;
  instances_.emplace(id, std::make_unique<Instance>(context_, id, std::move(config)));
  removed_.insert(id);
}

absl::Status Supervisor::Boot(const ReapedLookup& reaped) {
  std::vector<std::string> ids{kOwnId};
  for (const auto& [id, service] : config_.services) {
    AddInstances(service);
  }
  for (const auto& [id, instance] : instances_) {
    ids.push_back(id);
  }
  store_.RemoveServicesExcept(std::move(ids));
  if (absl::Status status = AdoptAll(reaped); !status.ok()) {
    return status;
  }
  for (const std::string& id : removed_) {
    Enqueue(*Find(id), StopRequested{{.actor = kOwnId, .reason = "it is not in the configuration any more"}, false});
  }
  DrainEvents();
  // Stops and restarts that an earlier daemon has left half done go on in order, too.
  StopJob left{.members = {}, .before = nullptr};
  for (const auto& [id, instance] : instances_) {
    if (IsGoingDown(instance->machine())) {
      left.members.push_back(id);
    }
  }
  stop_jobs_.push_back(std::move(left));
  FailPoint(FailPointId::kBootAdopted);
  if (options_.births != nullptr) {
    files_.Post([births = options_.births] { births->ForgetLeft(); });  // what they told of is on record by then
  }
  for (const auto& [id, instance] : instances_) {
    const bool wanted = instance->config().enabled || instance->was_wanted();
    if (wanted && !instance->stopped_by_request() && instance->machine().phase == Phase::kStopped) {
      Enqueue(*instance, StartRequested{{.actor = kOwnId, .reason = {}}});
    }
  }
  usage_timer_->ArmAfter(config_.monitoring.metrics_interval);
  alerts_.Configure(config_.monitoring.alerts, config_.notifications);
  alerts_.Begin();
  return absl::OkStatus();
}

absl::Status Supervisor::AdoptAll(const ReapedLookup& reaped) {
  RemoveLeftTemporaries(options_.state_directory, [](const std::string&) { return true; });
  RemoveLeftTemporaries(context_.pid_directory, [this](const std::string& name) {
    return name.ends_with(".pid") && Find(name.substr(0, name.size() - 4)) != nullptr;
  });
  std::set<std::string> known = TakeUpNames(RecordedInstances(options_.state_directory));
  std::map<std::string, std::vector<BirthJournal::Left>> births;
  if (options_.births != nullptr) {
    for (BirthJournal::Left birth : options_.births->left()) {
      const size_t end = std::min(birth.plan.name.find('#'), birth.plan.name.size());
      const std::string id = PresentName(birth.plan.name.substr(0, end));
      birth.plan.name.replace(0, end, id);
      births[id].push_back(std::move(birth));
      known.insert(id);
    }
  }
  for (const std::string& id : known) {
    if (Find(id) == nullptr) {
      AddOrphan(id);
    }
  }
  for (const auto& [id, instance] : instances_) {
    if (known.contains(id) || (options_.cgroups != nullptr && !options_.cgroups->WasEmpty())) {
      store_.UpdateService(RowOf(*instance));  // before the events that refer to it
      if (absl::Status status = instance->Adopt(reaped, births[id]); !status.ok()) {
        return status;
      }
    }
  }
  return absl::OkStatus();
}

// ----------------------------------------------------------------------------------------------------------- a turn

void Supervisor::Enqueue(Instance& instance, ServiceEvent event) {
  events_.push_back({instance.id(), std::move(event)});
}

void Supervisor::TurnEnded() {
  // Each round either moves some machine forward or ends the turn; the bound is there for the case that it does not.
  constexpr int kMostRounds = 10'000;
  for (int round = 0; round < kMostRounds; ++round) {
    const bool stepped = DrainEvents();
    const bool asked = AskOrder();
    if (!stepped && !asked) {
      break;
    }
  }
  if (std::exchange(unsettled_, false)) {
    operations_.SettleDown([this](const std::string& id) { return DownOutcome(id); });
    EraseRemoved();
    PublishChanges();
    alerts_.OnChange();
  }
  HandRowsOn();
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
      for (ServiceAction& action : instance->StepEvent(queued.event, now, storm_allowance_)) {
        actions.push_back({queued.id, std::move(action)});
      }
      touched.insert(queued.id);
    }
    left_by_ends_.reset();
    for (const Pending& pending : actions) {
      Find(pending.id)->Perform(pending.action);
    }
    for (const std::string& id : touched) {
      Find(id)->Settle();
    }
  }
  order_changed_ = true;
  unsettled_ = true;
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
  // Most turns of a large stop bring ends alone, and nobody whose turn could come by them.
  if (!PruneStopJobs() && !someone_waits) {
    return false;
  }
  const std::vector<OrderView> views = Views();
  bool moved = AdvanceStopJobs(views);
  for (GateDecision& decision : DecideGates(views)) {
    Instance* instance = Find(decision.id);
    const MachineState& machine = instance->machine();
    switch (decision.gate) {
      case Gate::kOpen:
        Enqueue(*instance, GateOpened{});
        moved = true;
        break;
      case Gate::kBlocked:
        if (machine.phase != Phase::kBlocked || machine.reason != decision.message) {
          Enqueue(*instance, GateBlocked{std::move(decision.message)});
          moved = true;
        }
        break;
      case Gate::kClosed:
        break;
    }
  }
  return moved;
}

// Lets go of those that are down, wanted again or not to be stopped. True: somebody still waits for its turn.
bool Supervisor::PruneStopJobs() {
  bool someone_waits = false;
  for (StopJob& job : stop_jobs_) {
    std::erase_if(job.members, [&](const std::string& id) {
      const Instance* instance = Find(id);
      const bool is_done = instance == nullptr || !IsGoingDown(instance->machine());
      someone_waits = someone_waits || (!is_done && AwaitsItsTurnToStop(instance->machine()));
      return is_done;
    });
  }
  std::erase_if(stop_jobs_, [](const StopJob& job) { return job.members.empty(); });
  return someone_waits;
}

bool Supervisor::AdvanceStopJobs(const std::vector<OrderView>& views) {
  bool moved = false;
  for (const StopJob& job : stop_jobs_) {
    std::vector<std::string> turns =
        job.before == nullptr ? DecideStops(views, job.members) : DecideReloadStops(views, job);
    std::erase_if(turns, [this](const std::string& id) { return !AwaitsItsTurnToStop(Find(id)->machine()); });
    if (job.before == nullptr && !turns.empty()) {  // what a reload changes goes down in any case
      for (GateDecision& decision : DecideRestartGates(views, turns)) {
        if (decision.gate != Gate::kOpen) {
          std::erase(turns, decision.id);
        }
        if (decision.gate == Gate::kBlocked) {
          Enqueue(*Find(decision.id), GateBlocked{std::move(decision.message)});
          moved = true;
        }
      }
    }
    for (const std::string& id : turns) {
      Enqueue(*Find(id), StopTurnCame{});
      moved = true;
    }
  }
  return moved;
}

// What runs was started by the configuration before, so by that one it goes down. By itself: other jobs go by another
// configuration, and two orders could wait for each other.
std::vector<std::string> Supervisor::DecideReloadStops(std::vector<OrderView> views, const StopJob& job) {
  const std::set<std::string_view> members(job.members.begin(), job.members.end());
  for (OrderView& view : views) {
    view.going_down = view.going_down && members.contains(view.id);
    const auto service = job.before->find(std::string(view.service_id));
    if (service != job.before->end()) {
      view.priority = service->second.priority;
      view.depends_on = &service->second.depends_on;
    }
  }
  return DecideStops(views, job.members);
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
      for (const auto& [id, other] : instances_) {
        other->NoLongerAfter(*entry);
      }
      order_changed_ = true;  // what depends on it may have waited for this
      loop_.Post([] {});      // in a turn of its own: this one has asked the order already
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

std::string Supervisor::ShutdownProgress() const {
  if (!shutting_down_) {
    return "";
  }
  constexpr size_t kShown = 5;
  std::vector<std::string> left;
  for (const Instance* instance : instances()) {
    if (IsAlive(instance->machine().phase)) {
      left.push_back(instance->id());
    }
  }
  const size_t shown = std::min(left.size(), kShown);
  return fmt::format("supervisord is stopping all services and ends when they are gone: {} left{}{}{}", left.size(),
                     left.empty() ? "" : ": ",
                     fmt::join(left.begin(), left.begin() + static_cast<std::ptrdiff_t>(shown), ", "),
                     left.size() > shown ? ", ..." : "");
}

std::string Supervisor::WaitsForWhat(const Instance& instance) const {
  if (instance.machine().phase != Phase::kWaiting) {
    return "";
  }
  for (const GateDecision& decision : DecideGates(Views())) {
    const Instance* other = decision.id == instance.id() ? Find(decision.waits_for) : nullptr;
    if (other != nullptr && decision.gate == Gate::kClosed) {
      return WaitText(decision, ViewOf(*other));
    }
  }
  return "";
}

// --------------------------------------------------------------------------------------------------- what is reported

void Supervisor::OnRecord(Instance& instance, const RecordEvent& event) {
  LogInfo(event.message, {{"service", instance.id()}, {"event", event.type}, {"actor", event.cause.actor}});
  const bool ends_run = event.exit && (event.type == "exited" || event.type == "stopped");
  const absl::Time now = WallNow();
  const EndedRun* abnormal = AbnormalEnd(instance, event);
  if (abnormal != nullptr) {
    want_lines_.push_back(
        {.event = {.service_id = instance.id(), .event_type = event.type, .timestamp = now, .last_lines = ""},
         .streams = instance.streams(),
         .of = instance.WhoseLastLines()});
  }
  AddRow(instance,
         {.id = 0,
          .service_id = instance.id(),
          .event_type = event.type,
          .timestamp = now,
          .message = event.message,
          .details = EventDetails(event, ends_run ? instance.ended_pid() : instance.pid(), abnormal),
          .actor = event.cause.actor},
         ends_run);
  alerts_.OnRecord(instance.id(), event);
  if (event.type == "started" || event.type == "adopted") {
    AwaitFirstUsage();
  }
  const bool gave_up = instance.machine().phase == Phase::kFailed && event.type == "failed";
  if (gave_up && instance.config().critical && config_.global.exit_on_critical_failure && !shutting_down_ &&
      !std::exchange(critical_reported_, true)) {
    const int code = event.exit ? event.exit->exit_code().value_or(0) : 0;
    loop_.Post([this, code, why = fmt::format("critical service {} has failed: {}", instance.id(), event.message)] {
      options_.on_critical_failure(why, code == 0 ? 1 : code);
    });
  }
}

void Supervisor::OnUntold(Instance& instance, EventRow row) { AddRow(instance, std::move(row), true); }

void Supervisor::AddRow(Instance& instance, EventRow row, bool ends_run) {
  if (ends_run) {
    row.ticket = ++last_ticket_;
    tickets_.emplace(row.ticket, instance.id());
    tickets_.erase(instance.KeepUntilTold(row));
  }
  rows_.push_back(std::move(row));
}

// After the turn's records, which the files' thread has in its queue by now.
void Supervisor::HandRowsOn() {
  if (rows_.empty()) {
    return;
  }
  files_.Post([&store = store_, rows = std::exchange(rows_, {})]() mutable {
    for (EventRow& row : rows) {
      store.LogEvent(std::move(row));
    }
    FailPoint(FailPointId::kEventsHanded);
  });
  KeepLastLines();
}

void Supervisor::Told(const std::vector<uint64_t>& tickets) {
  for (const uint64_t ticket : tickets) {
    const auto found = tickets_.find(ticket);
    if (found == tickets_.end()) {
      continue;
    }
    if (Instance* instance = Find(found->second)) {
      instance->Told(ticket);
    }
    tickets_.erase(found);
  }
}

void Supervisor::RecordOwnEvent(const std::string& type, const std::string& message, const Cause& cause) {
  LogInfo(message, {{"event", type}, {"actor", cause.actor}});
  RecordEvent event{.type = type, .message = message, .cause = cause, .exit = {}, .attempt = 0, .delay = {}};
  rows_.push_back({.id = 0,
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
    row.uptime_seconds = absl::ToInt64Seconds(instance.uptime());
  }
  if (instance.last_restart() != absl::InfinitePast()) {
    row.last_restart = instance.last_restart();
  }
  return row;
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

bool Supervisor::HasProcess(pid_t pid) const {
  return std::ranges::any_of(instances_, [pid](const auto& entry) { return entry.second->pid() == pid; });
}

void Supervisor::ReportExit(pid_t pid, WaitStatus status) {
  for (const auto& [id, instance] : instances_) {
    instance->ReportExit(pid, status);
  }
}

}  // namespace supervisor
