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
#include "daemon/service/descriptor_need.h"
#include "daemon/service/log_access.h"

namespace supervisor {
namespace {

// "2" of "worker:2"; "0" of "web".
std::string InstanceNumber(const std::string& id) {
  const size_t colon = id.find(':');
  return colon == std::string::npos ? "0" : id.substr(colon + 1);
}

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
      process_name_(id_),
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
      tree_(nullptr),
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
          .stop_extension = config_.graceful_shutdown.max_extension,
          .is_shutting_down = is_shutting_down_,
          .stop_signal = config_.graceful_shutdown.signal,
          .has_stop_command = !config_.graceful_shutdown.run.command.empty(),
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
  GiveUpDescriptors();
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

// Where there is no plenty, one that rests leaves its descriptors to others: its log is drained first.
void Instance::GiveUpDescriptors() {
  const bool rests =
      machine_.phase == Phase::kStopped || machine_.phase == Phase::kExited || machine_.phase == Phase::kFailed;
  // A process that the kill mode spares may still write to the FIFO.
  if (!rests || descriptors_.count() == 0 || DescriptorsAreInPlenty() || child_ != nullptr ||
      config_.graceful_shutdown.kill_mode != KillMode::kTree) {
    return;
  }
  for (const std::string& stream : {stdout_stream(), stderr_stream()}) {
    context_.logs.Close(stream);
  }
  is_captured_ = captures_stderr_ = false;
  descriptors_ = {};
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
  const SettingsChanged settings{.restart_policy = !(config.restart_policy == config_.restart_policy),
                                 .readiness = !(config.readiness == config_.readiness),
                                 .stop_timeout = config.graceful_shutdown.timeout != config_.graceful_shutdown.timeout};
  config_ = std::move(config);
  changed_ = true;
  if (limits_changed && tree_.cgroup() != nullptr) {
    ApplyLimits();
    if (child_ != nullptr && !execed_) {
      limits_.LeaveRoomForExec(tree_.cgroup());
    }
  } else if (limits_changed) {
    limits_.Foresee(config_.resource_limits, OfferedControllers());
  }
  const ServiceState state = StateOf(machine_.phase);
  const bool is_up = state == ServiceState::kStarting || state == ServiceState::kRunning;
  if (health_changed && is_up && child_ != nullptr && execed_) {
    health_.Update(config_.health_check);  // while it becomes ready too: what it waits for may be what was wrong
  }
  if (logs_changed && is_captured_) {
    UpdateLogs();
  }
  if (settings.restart_policy || settings.readiness || settings.stop_timeout) {
    Enqueue(settings);
  }
}

// ------------------------------------------------------------------------------------------------------- starting

void Instance::operator()(const SpawnProcess&) {
  ++spawn_;
  spawning_ = true;
  stop_command_.reset();  // of the run before: it must not stop this one
  tree_asked_ = false;
  has_former_fifo_ = false;
  exec_failure_.reset();
  TakeOwnName();
  status_text_.clear();
  if (const absl::Status status = context_.descriptors.Resize(descriptors_, DescriptorsFor(config_)); !status.ok()) {
    FailStart(std::string(status.message()));
    return;
  }
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
    environment_file_digest_ = identity_->environment_file_digest;
    OpenLogs(spawn, false);
  });
}

void Instance::WithIdentity(std::function<void(absl::StatusOr<ServiceIdentity>)> next) {
  if (!NeedsLookup(config_)) {
    next(ResolveIdentity(config_));
    return;
  }
  context_.lookups.Ask<ServiceIdentity>(
      alive_, [config = config_] { return ResolveIdentity(config); }, std::move(next));
}

void Instance::TakeIdentity(ServiceIdentity identity) {
  identity_ = std::move(identity);
  log_access_ = identity_->log_access;
  secrets_.Learn(identity_->variables);
}

LogStreamOptions Instance::StreamOptions(bool is_stderr) const {
  LogStreamOptions options;
  options.fifo_path = FifoPath(is_stderr);
  options.fifo_mode = has_former_fifo_ ? 0600 : 0622;
  options.file_path = is_stderr ? stderr_log_path() : log_path();
  constexpr double kMegabyte = 1 << 20;
  options.max_size_bytes = static_cast<uint64_t>(config_.logs.max_size_mb * kMegabyte);
  options.max_files = config_.logs.max_files;
  options.compress = config_.logs.compress;
  options.timestamps = config_.logs.timestamps;
  options.file_access = log_access_;
  options.forward = config_.logs.forward;
  options.forward_name = id_;
  if (identity_ && identity_->credentials) {
    options.fifo_uid = identity_->credentials->uid;
    options.fifo_gid = identity_->credentials->gid;
  } else if (config_.user.empty() && config_.group.empty()) {
    options.fifo_uid = geteuid();
    options.fifo_gid = getegid();
  }  // else it is adopted, and not known yet
  return options;
}

// In a directory that is the daemon's alone. Earlier programs had it in the state directory, where others reach it by
// its name: a service of theirs goes on writing there until it is started anew.
std::string Instance::FifoPath(bool is_stderr) const {
  return fmt::format("{}/{}{}.{}", context_.state_directory, has_former_fifo_ ? "" : "private/", process_name_,
                     is_stderr ? "err" : "out");
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
                              is_captured_ = true;
                              captures_stderr_ = is_stderr;
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
  SetVariable(request.environment, "SERVICE_ID", id_);
  SetVariable(request.environment, "SERVICE_INSTANCE", InstanceNumber(id_));
  if (identity_) {  // what the configuration says of these itself holds
    for (const auto& [name, value] : identity_->variables) {
      SetVariable(request.environment, name, value);
    }
  }
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
  notify_budget_ = {};
  if (WantsNotifications(watchdog_)) {
    if (const absl::Status status = OpenNotifySocket(); !status.ok()) {
      FailStart(std::string(status.message()));
      return;
    }
    SetVariable(request.environment, "NOTIFY_SOCKET", notify_->path());
  }
  request.stdout_fd = stdout_fd_.get();
  request.stderr_fd = config_.logs.stderr_mode == StderrMode::kSeparate ? stderr_fd_.get() : stdout_fd_.get();
  EnterCgroup();
  tree_.PlaceIn(request, RunMark::Random());
  limits_.LeaveRoomForExec(tree_.cgroup());
  limits_.BeginRun(tree_.cgroup());
  FailPoint(FailPointId::kSpawnDecided);
  ++launches_;
  birth_ = BeginBirth(id_, tree_.mark(), request);
  absl::StatusOr<std::unique_ptr<ChildProcess>> child =
      ChildProcess::Spawn(context_.loop, std::move(request), ObserveChild());
  FailPoint(FailPointId::kSpawnCloned);
  stdout_fd_.Reset();  // the child has its own
  stderr_fd_.Reset();
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
  stdout_fd_.Reset();
  stderr_fd_.Reset();
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
  if (limits_.ways().memory == LimitWay::kCgroup) {
    ApplyLimits();
  }
  FailPoint(FailPointId::kSpawnStarted);
  WritePidFile();
  Enqueue(ExecSucceeded{child_->pid(), watchdog_});
  for (const Notification& notification : std::exchange(early_, {})) {
    Hear(notification);
  }
  const bool awaits = config_.readiness.type == ReadinessType::kHealthCheck;
  BeginHealth(awaits);
}

std::shared_ptr<const RunAs> Instance::RunAsOf(const std::optional<SpawnRequest::Credentials>& credentials) const {
  RunAs run_as{.credentials = credentials, .umask = config_.umask, .no_new_privileges = config_.no_new_privileges};
  if (config_.health_check.script_environment == ScriptEnvironment::kService && identity_) {
    run_as.environment = BaseRequest(config_.run).environment;
  }
  return std::make_shared<RunAs>(std::move(run_as));
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
  if (is_end && action.cause.actor != PolicyCause().actor) {
    if (const std::string left = context_.observer.WhatEndLeaves(*this); !left.empty()) {
      LogWarning("a stop did not reach all processes", {{"service", id_}, {"processes", left}});
      RecordEvent told = action;
      told.message += fmt::format("; {}", left);
      context_.observer.OnRecord(*this, told);
      signalled_.reset();
      return;
    }
  }
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
