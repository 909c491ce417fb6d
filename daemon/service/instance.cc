#include "daemon/service/instance.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <utility>

#include "common/atomic_file.h"
#include "common/diag_log.h"
#include "common/fail_point.h"
#include "daemon/process/proc_fs.h"

namespace supervisor {
namespace {

uint64_t SeedOf(const std::string& id) {
  return std::hash<std::string>()(id) ^ static_cast<uint64_t>(absl::ToUnixNanos(WallNow()));
}

}  // namespace

// std::visit needs something that it can call; the overloads are private to Instance.
struct ActionPerformer {
  Instance& instance;
  template <typename Action>
  void operator()(const Action& action) const {
    instance(action);
  }
};

Instance::Instance(const InstanceContext& context, std::string id, ServiceConfig config)
    : context_(context),
      id_(std::move(id)),
      config_(std::move(config)),
      health_(context.loop, context.checker,
              {.on_result =
                   [this](const CheckResult& result, Health verdict) {
                     context_.observer.OnHealthResult(*this, result, verdict);
                     WriteRecord();
                   },
               .on_healthy =
                   [this](const std::string& message) {
                     health_.Ready();
                     context_.observer.OnRecord(*this, {.type = "healthy",
                                                        .message = message,
                                                        .cause = {.actor = "health check", .reason = {}},
                                                        .exit = {},
                                                        .attempt = 0,
                                                        .delay = {}});
                     if (config_.readiness.type == ReadinessType::kHealthCheck) {
                       Enqueue(BecameReady{});
                     }
                   },
               .on_unhealthy =
                   [this](const std::string& message) {
                     context_.observer.OnRecord(*this, {.type = "unhealthy",
                                                        .message = message,
                                                        .cause = {.actor = "health check", .reason = {}},
                                                        .exit = {},
                                                        .attempt = 0,
                                                        .delay = {}});
                   },
               .on_wants_restart = [this](const std::string& message) { Enqueue(CheckFailed{message}); },
               .hide_secrets = [this](std::string text) { return secrets_.Hide(std::move(text)); },
               .on_wants_run_as = [this] { LookUpRunAs(); },
               .tree = [this] { return tree_.view(); }}),
      tree_(nullptr, fmt::format("{}/{}", context.state_directory, id_)),
      timer_(context.loop.NewTimer([this] { OnTimer(); })),
      sweep_timer_(context.loop.NewTimer([this] { CheckTreeEmpty(); })),
      alive_(std::make_shared<bool>(true)),
      on_disk_(std::make_shared<OnDisk>()) {
  machine_.random = SeedOf(id_);
  secrets_.Learn(context.inherited_environment);
  secrets_.Learn({config_.environment.begin(), config_.environment.end()});
  limits_.Foresee(config_.resource_limits, OfferedControllers());
}

Instance::~Instance() = default;

MachineConfig Instance::MachineConfigNow() const {
  return {.restart = config_.restart_policy,
          .readiness = config_.readiness,
          .stop_timeout = config_.graceful_shutdown.timeout,
          .is_unhealthy = health_.health() == Health::kUnhealthy,
          .has_pre_start = !config_.hooks.pre_start.run.command.empty(),
          .has_post_start = !config_.hooks.post_start.run.command.empty(),
          .has_pre_stop = !config_.hooks.pre_stop.run.command.empty(),
          .has_post_stop = !config_.hooks.post_stop.run.command.empty()};
}

std::vector<ServiceAction> Instance::StepEvent(const ServiceEvent& event, MonoTime now, MonoTime& storm_allowance) {
  if (std::holds_alternative<StopRequested>(event)) {
    stopped_by_request_ = true;
  } else if (std::holds_alternative<StartRequested>(event) || std::holds_alternative<RestartRequested>(event)) {
    stopped_by_request_ = false;
  }
  const int restarts_before = machine_.restart_count;
  machine_.storm_allowance = storm_allowance;
  StepResult result = Step(MachineConfigNow(), machine_, event, now);
  machine_ = std::move(result.state);
  storm_allowance = machine_.storm_allowance;
  if (machine_.restart_count > restarts_before || std::holds_alternative<RestartRequested>(event)) {
    last_restart_ = WallNow();
  }
  changed_ = true;
  return std::move(result.actions);
}

void Instance::Perform(const ServiceAction& action) { std::visit(ActionPerformer{*this}, action); }

void Instance::Settle() {
  if (StateOf(machine_.phase) == ServiceState::kStopping) {
    health_.Stop();  // that it no longer answers is no news
  }
  timer_->ArmAt(NextDeadline(machine_));
  WriteRecord();
  if (!reapings_.empty()) {
    context_.files.Post([reapings = std::exchange(reapings_, {})] {
      FailPoint(FailPointId::kExitRecorded);
      for (const std::function<void()>& reap : reapings) {
        reap();
      }
    });
  }
}

bool Instance::TakeChanged() { return std::exchange(changed_, false); }

void Instance::OnTimer() {
  if (MonotonicNow() >= NextDeadline(machine_)) {
    Enqueue(DeadlineReached{});
  } else {
    timer_->ArmAt(NextDeadline(machine_));
  }
}

void Instance::SetConfig(ServiceConfig config) {
  const bool health_changed = !(config.health_check == config_.health_check);
  const bool logs_changed = !(config.logs == config_.logs);
  const bool limits_changed = !(config.resource_limits == config_.resource_limits);
  config_ = std::move(config);
  changed_ = true;
  if (limits_changed && tree_.cgroup() != nullptr) {
    ApplyLimits();
  } else if (limits_changed) {
    limits_.Foresee(config_.resource_limits, OfferedControllers());
  }
  const ServiceState state = StateOf(machine_.phase);
  const bool is_up = state == ServiceState::kStarting || state == ServiceState::kRunning;
  if (health_changed && is_up && child_ != nullptr && execed_) {
    health_.Update(config_.health_check);  // while it becomes ready too: what it waits for may be what was wrong
  }
  if (logs_changed && stdout_fd_) {
    // Sizes and counts hold from now on; where stderr goes is decided at the next start.
    context_.logs.OpenAsync(stdout_stream(), StreamOptions(false), [](const absl::StatusOr<UniqueFd>&) {});
    if (stderr_fd_) {
      context_.logs.OpenAsync(stderr_stream(), StreamOptions(true), [](const absl::StatusOr<UniqueFd>&) {});
    }
  }
}

// ------------------------------------------------------------------------------------------------------- starting

void Instance::operator()(const SpawnProcess&) {
  ++spawn_;
  spawning_ = true;
  exec_failure_.reset();
  status_text_.clear();
  looking_up_since_ = MonotonicNow();
  WithIdentity([this, spawn = spawn_](absl::StatusOr<ServiceIdentity> identity) {
    if (!spawning_ || spawn != spawn_) {
      return;
    }
    looking_up_since_ = kNoDeadline;
    if (!identity.ok()) {
      FailStart(std::string(identity.status().message()));
      return;
    }
    TakeIdentity(*std::move(identity));
    OpenLogs(spawn, false);
  });
}

void Instance::WithIdentity(std::function<void(absl::StatusOr<ServiceIdentity>)> next) {
  if (config_.user.empty() && config_.group.empty() && config_.environment_file.empty()) {
    next(ResolveIdentity(config_));
    return;
  }
  context_.lookups.Ask<ServiceIdentity>(
      alive_, [config = config_] { return ResolveIdentity(config); }, std::move(next));
}

void Instance::TakeIdentity(ServiceIdentity identity) {
  identity_ = std::move(identity);
  secrets_.Learn(identity_->variables);
}

LogStreamOptions Instance::StreamOptions(bool is_stderr) const {
  LogStreamOptions options;
  options.fifo_path = fmt::format("{}/{}.{}", context_.state_directory, id_, is_stderr ? "err" : "out");
  options.file_path = is_stderr ? stderr_log_path() : log_path();
  constexpr double kMegabyte = 1 << 20;
  options.max_size_bytes = static_cast<uint64_t>(config_.logs.max_size_mb * kMegabyte);
  options.max_files = config_.logs.max_files;
  options.compress = config_.logs.compress;
  options.timestamps = config_.logs.timestamps;
  if (identity_ && identity_->credentials) {
    options.fifo_uid = identity_->credentials->uid;
    options.fifo_gid = identity_->credentials->gid;
  } else if (config_.user.empty() && config_.group.empty()) {
    options.fifo_uid = geteuid();
    options.fifo_gid = getegid();
  }  // else it is adopted, and not known yet
  return options;
}

void Instance::OpenLogs(uint64_t spawn, bool is_stderr) {
  const bool separate = config_.logs.stderr_mode == StderrMode::kSeparate;
  if (is_stderr && !separate) {
    Launch(spawn);
    return;
  }
  const std::weak_ptr<bool> alive = alive_;
  context_.logs.OpenAsync(is_stderr ? stderr_stream() : stdout_stream(), StreamOptions(is_stderr),
                          [this, spawn, is_stderr, alive, &loop = context_.loop](absl::StatusOr<UniqueFd> fd) {
                            // A std::function must be copyable, and a UniqueFd is not.
                            auto held = std::make_shared<absl::StatusOr<UniqueFd>>(std::move(fd));
                            loop.Post([this, spawn, is_stderr, alive, held] {
                              if (alive.expired() || !spawning_ || spawn != spawn_) {
                                return;
                              }
                              if (!held->ok()) {
                                context_.logs.Close(is_stderr ? stderr_stream() : stdout_stream());
                                FailStart(std::string(held->status().message()));
                                return;
                              }
                              (is_stderr ? stderr_fd_ : stdout_fd_) = std::move(**held);
                              if (is_stderr) {
                                Launch(spawn);
                              } else {
                                OpenLogs(spawn, true);
                              }
                            });
                          });
}

SpawnRequest Instance::BaseRequest(const CommandConfig& run) const {
  SpawnRequest request;
  request.command = run.command;
  request.args = run.args;
  request.environment = context_.inherited_environment;
  if (identity_) {
    for (const auto& [name, value] : identity_->variables) {
      SetVariable(request.environment, name, value);
    }
  }
  SetVariable(request.environment, "SUPERVISOR_SERVICE_ID", id_);
  request.working_directory = config_.working_directory;
  request.credentials = identity_ ? identity_->credentials : std::nullopt;
  request.umask = config_.umask;
  request.no_new_privileges = config_.no_new_privileges;
  return request;
}

void Instance::AddLimits(SpawnRequest& request) const {
  const ResourceLimitsConfig& limits = config_.resource_limits;
  if (limits.max_open_files > 0) {
    const auto value = static_cast<rlim_t>(limits.max_open_files);
    request.limits.push_back({RLIMIT_NOFILE, {value, value}});
  } else {
    request.limits.push_back({RLIMIT_NOFILE, context_.descriptor_limit});
  }
  request.nice = limits.nice;
  if (limits.oom_score_adj != 0) {
    request.oom_score_adj = limits.oom_score_adj;
  }
}

void Instance::Launch(uint64_t spawn) {
  if (!spawning_ || spawn != spawn_) {
    return;
  }
  SpawnRequest request = BaseRequest(config_.run);
  AddLimits(request);
  const absl::StatusOr<absl::Duration> watchdog = WatchdogOf(request.environment);
  if (!watchdog.ok()) {
    FailStart(std::string(watchdog.status().message()));
    return;
  }
  watchdog_ = *watchdog;
  notify_.reset();
  former_notify_.reset();
  if (WantsNotifications(watchdog_)) {
    if (const absl::Status status = OpenNotifySocket(); !status.ok()) {
      FailStart(std::string(status.message()));
      return;
    }
    SetVariable(request.environment, "NOTIFY_SOCKET", notify_->path());
  }
  SetVariable(request.environment, ProcessTree::kMarkVariable, tree_.mark());
  request.stdout_fd = stdout_fd_.get();
  request.stderr_fd = config_.logs.stderr_mode == StderrMode::kSeparate ? stderr_fd_.get() : stdout_fd_.get();
  EnterCgroup();
  tree_.PlaceIn(request);
  limits_.BeginRun(tree_.cgroup());
  FailPoint(FailPointId::kSpawnDecided);
  ++launches_;
  birth_ = BeginBirth(id_, request);
  absl::StatusOr<std::unique_ptr<ChildProcess>> child =
      ChildProcess::Spawn(context_.loop, std::move(request), ObserveChild());
  FailPoint(FailPointId::kSpawnCloned);
  if (!child.ok()) {
    birth_.reset();
    FailStart(std::string(child.status().message()));
    return;
  }
  spawning_ = false;
  child_ = *std::move(child);
  execed_ = false;
  awaits_exec_since_ = MonotonicNow();
  early_.clear();
  started_ = WallNow();
  started_boot_ = SinceBoot();
  tree_.SetSession(child_->pid());
  sampler_ = std::make_shared<UsageSampler>();
  usage_ = {};
  usage_samples_ = 0;
  changed_ = true;
  WriteRecord();
}

void Instance::FailStart(const std::string& why) {
  spawning_ = false;
  Enqueue(StartFailed{fmt::format("cannot start {}: {}", id_, why)});
}

// For the process that is the main one from now on.
ChildProcess::Observer Instance::ObserveChild() {
  return {.on_started = [this](const std::optional<SpawnFailure>& failure) { OnStarted(failure); },
          .on_exit = [this, child = ++child_number_](WaitStatus status) { OnExit(child, status); }};
}

void Instance::OnStarted(const std::optional<SpawnFailure>& failure) {
  // It writes there no more, and the record is on its way.
  context_.files.Post([birth = std::exchange(birth_, nullptr), on_disk = on_disk_]() mutable {
    if (birth != nullptr && !on_disk->is_current) {
      on_disk->births.push_back(std::move(birth));
    }
  });
  if (failure) {
    exec_failure_ = failure->ToString();
    return;
  }
  execed_ = true;
  FailPoint(FailPointId::kSpawnStarted);
  WritePidFile();
  Enqueue(ExecSucceeded{child_->pid(), watchdog_});
  for (const Notification& notification : std::exchange(early_, {})) {
    OnNotification(notification);
  }
  const bool awaits = config_.readiness.type == ReadinessType::kHealthCheck;
  BeginHealth(awaits);
}

std::shared_ptr<const RunAs> Instance::RunAsOf(const std::optional<SpawnRequest::Credentials>& credentials) const {
  return std::make_shared<RunAs>(
      RunAs{.credentials = credentials, .umask = config_.umask, .no_new_privileges = config_.no_new_privileges});
}

void Instance::BeginHealth(bool awaits_readiness, const std::optional<VerdictState>& verdict) {
  health_.Start(config_.health_check,
                {.id = id_,
                 .pid = child_->pid(),
                 .working_directory = config_.working_directory,
                 .run_as = identity_ ? RunAsOf(identity_->credentials) : nullptr},
                awaits_readiness, verdict);
}

void Instance::OnExit(uint64_t child, WaitStatus status) {
  if (notify_ != nullptr) {
    notify_->Receive();  // what it said before it ended counts: MAINPID= of the process that goes on, above all
  }
  if (child != child_number_) {
    if (const auto former = former_.find(child); former != former_.end()) {
      tree_.Reaped(former->second->pid());
      former_.erase(former);
    }
    return;
  }
  health_.Stop();
  notify_.reset();
  former_notify_.reset();
  early_.clear();
  // What it wrote last must be in its log when its exit is told; a restart does not wait for that.
  ended_pid_ = child_->pid();
  tree_.Reaped(ended_pid_);
  reapings_.push_back(child_->TakeReaping());
  child_.reset();
  RemovePidFile();
  FinishExit(status);
}

absl::Duration Instance::uptime() const {
  return started_ == absl::InfinitePast() ? absl::ZeroDuration()
                                          : std::max(SinceBoot() - started_boot_, absl::ZeroDuration());
}

void Instance::FinishExit(WaitStatus status) {
  run_end_ = {.uptime = uptime(), .usage = usage_, .out_of_memory = false};
  started_ = absl::InfinitePast();
  sampler_ = std::make_shared<UsageSampler>();
  usage_ = {};
  usage_samples_ = 0;
  if (exec_failure_) {
    FailStart(*std::exchange(exec_failure_, std::nullopt));
    return;
  }
  std::string why = WhyItEnded(status);  // read from the cgroup, which may be left below
  run_end_.out_of_memory = !why.empty();
  const bool whole_tree = config_.graceful_shutdown.kill_mode == KillMode::kTree;
  const bool empty = !whole_tree || tree_.Empty();
  if (whole_tree && empty && !machine_.desired_up) {
    LeaveCgroup();
  }
  Enqueue(ProcessExited{status, empty, std::move(why)});
  if (!empty) {
    if (machine_.phase == Phase::kTerminating) {
      AskToGo();
    }
    sweep_delay_ = kShortestSweep;
    sweep_timer_->ArmAfter(sweep_delay_);
  }
}

// ------------------------------------------------------------------------------------------------------- telling

void Instance::operator()(const RecordEvent& action) {
  const bool is_end = action.type == "exited" || action.type == "stopped";
  const std::optional<Signalled> signalled = is_end ? std::exchange(signalled_, std::nullopt) : std::nullopt;
  if (action.type != "exited" || !signalled || !action.exit) {
    context_.observer.OnRecord(*this, action);
    return;
  }
  // What ended by the caller's signal, or after one that asks to end, ended because of him.
  const bool asks_to_end = signalled->signal == SIGTERM || signalled->signal == SIGINT || signalled->signal == SIGQUIT;
  RecordEvent told = action;
  if (asks_to_end || action.exit->signal() == signalled->signal) {
    told.cause = signalled->cause;
  }
  context_.observer.OnRecord(*this, told);
}

void Instance::operator()(const AttemptEnded& action) { context_.observer.OnAttemptEnded(*this, action); }

}  // namespace supervisor
