#include "daemon/startup/daemon_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/atomic_file.h"
#include "common/console.h"
#include "common/diag_log.h"
#include "common/errno_status.h"
#include "common/fail_point.h"
#include "common/paths.h"
#include "common/signal_names.h"
#include "common/version.h"
#include "daemon/config/expand.h"
#include "daemon/config/load.h"
#include "daemon/guardian/guardian.h"
#include "daemon/guardian/keeper.h"
#include "daemon/rpc/grpc_health_client.h"
#include "daemon/rpc/rpc_server.h"
#include "daemon/startup/config_errors.h"
#include "daemon/startup/config_in_force.h"
#include "daemon/startup/descriptor_report.h"
#include "daemon/startup/exit_report.h"
#include "daemon/startup/hang_watch.h"
#include "daemon/startup/left_behind.h"
#include "daemon/startup/log_reports.h"
#include "daemon/startup/notifications.h"
#include "daemon/startup/own_files.h"
#include "daemon/startup/own_log.h"
#include "daemon/startup/private_place.h"
#include "daemon/startup/process_setup.h"
#include "daemon/startup/reaped_exits.h"
#include "daemon/startup/runtime_place.h"
#include "daemon/startup/signal_reader.h"
#include "daemon/startup/socket_group.h"
#include "daemon/startup/stop_signals.h"
#include "daemon/startup/stranger_reaper.h"
#include "daemon/startup/take_over.h"
#include "daemon/startup/upgrade.h"

namespace supervisor {
namespace {

constexpr absl::Duration kSettled = absl::Seconds(1);
constexpr absl::Duration kLastNotifications = absl::Seconds(1);

Cause OwnCause() { return {.actor = "supervisor", .reason = {}}; }

class DaemonProcess {
 public:
  // `descriptor_limit` is what the services get.
  DaemonProcess(const DaemonOptions& options, const rlimit& descriptor_limit)
      : options_(options), descriptor_limit_(descriptor_limit) {}
  // What the workers do refers to the rest; after a start that failed they have some left.
  ~DaemonProcess() {
    config_reader_.Finish();
    files_.Finish();
  }
  DaemonProcess(const DaemonProcess&) = delete;
  DaemonProcess& operator=(const DaemonProcess&) = delete;

  // Makes everything; what fails is the message for whoever started us.
  // `texts`: what `config` was read from.
  absl::Status Start(Config config, std::vector<ConfigText> texts);
  int Run();
  void Announce(const absl::Status& status);
  void RemoveDirectories();
  void GiveUpFiles() {
    if (own_files_ != nullptr) {
      own_files_->GiveUp();
    }
  }

 private:
  absl::Status MakeDirectoriesFor(const Config& config);
  absl::Status RestorePlace();
  // Of the guardian, which every daemon has at its start, else of this process.
  pid_t MainPid() const { return options_.guardian_pid != 0 && !guardian_gone_ ? options_.guardian_pid : getpid(); }
  absl::Status OpenStore(const Config& config);
  void OnCommitted(const std::vector<EventRow>& rows);
  absl::Status MakeLogs();
  absl::Status ServeControl(const Config& config);
  void WatchSignals();
  void OnSignal(const signalfd_siginfo& info);
  void HurryShutdown();
  void OnGuardianGone();
  void BeginShutdown(const Cause& cause, int exit_code, ActionsDone done);
  void KeepAppliedConfig(std::vector<ConfigText> texts, std::function<void()> kept);
  void BeginUpgrade(const Cause& cause, std::function<void(absl::Status)> done);
  [[noreturn]] void MakeRoom();

  const DaemonOptions& options_;
  rlimit descriptor_limit_;
  RuntimePaths paths_;
  RuntimePlace place_{paths_, options_.lock_fd, options_.trust_files};
  AppliedConfigFile applied_config_{paths_.applied_config};  // the files' thread alone
  DescriptorBudget descriptors_;
  const absl::Time started_ = WallNow();
  int exit_code_ = 0;
  std::vector<std::string> left_behind_;  // by the shutdown: see left_behind.h
  bool ending_ = false;
  bool is_restoring_ = false;  // its place, and has not come to the end of that

  // In the order in which they depend on each other; they go in reverse.
  Loop loop_;
  EventHub events_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<CgroupRoot> cgroups_;
  std::unique_ptr<BirthJournal> births_;
  Worker files_{Worker::Waking::kWhenTold};
  Worker config_reader_;
  std::unique_ptr<HeldDescriptors> held_;
  std::unique_ptr<OwnFiles> own_files_;  // the configuration reader's thread, once that runs
  std::string held_log_;                 // its name among the held descriptors
  std::vector<UniqueFd> taken_over_;     // FIFOs that could not be held, until the log pump has them open
  std::unique_ptr<LogPump> logs_;
  std::unique_ptr<Checker> checker_;
  std::unique_ptr<Supervisor> supervisor_;
  std::unique_ptr<Notifier> notifier_;
  std::unique_ptr<Reloader> reloader_;
  std::unique_ptr<UpgradeTrial> trial_;
  std::unique_ptr<Loop::Timer> leave_timer_;
  std::unique_ptr<RpcServer> rpc_;
  StopSignals stops_{loop_,
                     {.begin =
                          [this](int signal) {
                            BeginShutdown({.actor = fmt::format("signal {}", SignalName(signal)), .reason = {}}, 0,
                                          [](const std::vector<ActionOutcome>&) {});
                          },
                      .hurry = [this] { HurryShutdown(); }}};
  std::unique_ptr<SignalReader> signals_;
  std::unique_ptr<ReapedExits> reaped_;
  UniqueFd guardian_fd_;
  std::unique_ptr<Loop::Timer> after_boot_;
  bool guardian_gone_ = false;
  std::unique_ptr<Loop::Watch> guardian_watch_;
  std::unique_ptr<StrangerReaper> stranger_reaper_;
  std::unique_ptr<LoopWatchdog> watchdog_;
};

absl::Status DaemonProcess::MakeDirectoriesFor(const Config& config) {
  absl::Status status = MakeOwnDirectories(config, options_.trust_files);
  return status.ok() ? place_.MakeDirectories() : status;
}

// What others find us by was removed: a client the socket, the next daemon the records.
absl::Status DaemonProcess::RestorePlace() {
  is_restoring_ = true;
  absl::Status status = place_.Restore(MainPid(), *held_);
  if (!status.ok()) {
    return status;
  }
  TellKeeperOfNewLock(options_.keeper_fd);
  // What comes after a step that failed is made all the same, and all of it again at the next attempt.
  status = MakeDirectoriesFor(supervisor_->config());
  if (births_ != nullptr) {
    status.Update(births_->MakeAnew(paths_.births));
  }
  for (Instance* instance : supervisor_->instances()) {
    instance->RestoreFiles();
  }
  files_.Post([this] { applied_config_.Restore(); });
  is_restoring_ = !status.ok();
  return status;
}

absl::Status DaemonProcess::OpenStore(const Config& config) {
  Store::Options options;
  options.path = config.global.database;
  options.metrics_retention = config.monitoring.metrics_retention;
  options.events_retention = config.monitoring.events_retention;
  absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(
      options, [this](const std::vector<EventRow>& rows) { OnCommitted(rows); },
      [this, path = options.path](const std::string& error) {
        loop_.Post([this, error] {
          if (supervisor_ != nullptr) {
            supervisor_->alerts().OnDatabase(error);
          }
        });
        if (error.empty()) {
          LogInfo("database is written again", {{"database", path}});
        } else {
          LogError("database trouble; supervision goes on", {{"database", path}, {"error", error}});
        }
      });
  if (!store.ok()) {
    return store.status();
  }
  store_ = *std::move(store);
  return absl::OkStatus();
}

// On the store's thread.
void DaemonProcess::OnCommitted(const std::vector<EventRow>& rows) {
  std::vector<EventRow> unseen;
  std::ranges::copy_if(rows, std::back_inserter(unseen), [](const EventRow& row) { return !row.late; });
  events_.Publish(unseen);
  std::vector<uint64_t> tickets;
  for (const EventRow& row : rows) {
    if (row.ticket != 0 && row.id != 0) {
      tickets.push_back(row.ticket);
    }
  }
  if (!tickets.empty()) {
    loop_.Post([this, tickets = std::move(tickets)] { supervisor_->Told(tickets); });
  }
}

absl::Status DaemonProcess::MakeLogs() {
  held_ = std::make_unique<HeldDescriptors>(options_.held_send_fd, options_.held_receive_fd);
  if (!place_.IsWhole()) {  // removed while the daemon before this one lived, or since
    absl::Status status = place_.Restore(MainPid(), *held_);
    if (absl::IsAlreadyExists(status)) {
      return status;  // nothing of what it has may be touched
    }
    if (status.ok()) {
      TellKeeperOfNewLock(options_.keeper_fd);
    } else {
      LogError("a second daemon may be started beside this one", {{"error", std::string(status.message())}});
    }
  }
  taken_over_ = TakeOverFromKeepers(paths_, options_.keeper_pid, *held_);
  logs_ = MakeLogPump(loop_, supervisor_, *held_);
  return absl::OkStatus();
}

absl::Status DaemonProcess::ServeControl(const Config& config) {
  const absl::StatusOr<std::optional<gid_t>> group = SocketGroup(config.global.socket_group);
  if (!group.ok()) {
    return group.status();
  }
  const RpcContext context{
      .loop = loop_,
      .supervisor = *supervisor_,
      .reloader = *reloader_,
      .store = *store_,
      .events = events_,
      .logs = *logs_,
      .notifier = *notifier_,
      .socket_group = *group,
      .socket_group_name = config.global.socket_group,
      .config_file = options_.config_file,
      .database = config.global.database,
      .surroundings = {.are_whole = [this] { return !is_restoring_ && place_.IsWhole(); },
                       .restore = [this] { return RestorePlace(); }},
      .guardian_pid = options_.guardian_pid,
      .daemon_started = started_,
      .shutdown = [this](const Cause& cause, ActionsDone done) { BeginShutdown(cause, 0, std::move(done)); },
      .upgrade = [this](const Cause& cause,
                        std::function<void(absl::Status)> done) { BeginUpgrade(cause, std::move(done)); }};
  absl::StatusOr<std::unique_ptr<RpcServer>> server =
      RpcServer::Start(context, paths_.socket, config.global.socket_mode, paths_.state_directory + "/private");
  if (!server.ok()) {
    return server.status();
  }
  rpc_ = *std::move(server);
  return absl::OkStatus();
}

absl::Status DaemonProcess::Start(Config config, std::vector<ConfigText> texts) {
  if (absl::Status status = ChildProcess::Prepare(); !status.ok()) {
    return status;
  }
  paths_ = GetRuntimePaths(config.global.socket);
  // First, for what is wrong with the directories has to be read somewhere by who was not there.
  if (absl::Status status = ConfigureOwnLog(config.global, options_.started_fd < 0); !status.ok()) {
    return status;
  }
  if (absl::Status status = MakeDirectoriesFor(config); !status.ok()) {
    return status;
  }
  if (absl::Status status = MakeLogs(); !status.ok()) {
    return status;
  }
  own_files_ =
      std::make_unique<OwnFiles>(paths_.socket, *held_, MainPid(), access(paths_.applied_config.c_str(), F_OK) == 0);
  if (absl::Status status = own_files_->Begin(config); !status.ok()) {
    return status;
  }
  if (absl::Status status = OpenStore(config); !status.ok()) {
    return status;
  }
  births_ = OpenBirths(paths_.births);
  checker_ = MakeChecker();
  cgroups_ = CgroupRoot::Detect(fmt::format("{:x}", std::hash<std::string>()(paths_.socket)));
  LogInfo("cgroup", {{"path", cgroups_ != nullptr ? cgroups_->path() : "none"},
                     {"limits", cgroups_ != nullptr
                                    ? cgroups_->TakeControllers({getpid(), options_.guardian_pid, options_.keeper_pid})
                                    : "resource limits are watched: no cgroup v2 that we may use"}});
  if (cgroups_ != nullptr && cgroups_->WasEmpty()) {
    config_reader_.Post([root = cgroups_.get(), ids = EnabledInstanceIds(config)] { root->Prepare(ids); });
  }
  notifier_ = MakeNotifier(loop_, config, supervisor_);
  supervisor_ = std::make_unique<Supervisor>(
      loop_, files_, *logs_, *checker_, *store_,
      Supervisor::Options{
          .state_directory = paths_.state_directory,
          .socket = paths_.socket,
          .cgroups = cgroups_.get(),
          .births = births_.get(),
          .held = held_.get(),
          .discard_output = DiscardThrough(options_.keeper_fd),
          .descriptor_limit = descriptor_limit_,
          .descriptors = &descriptors_,
          .notify = [this](const Alert& alert,
                           const std::vector<std::string>& labels) { notifier_->Notify(alert, labels); },
          .configure_notifications = [this](const NotificationsConfig& now) { notifier_->Configure(now); },
          .on_critical_failure =
              [this](const std::string& why, int exit_code) {
                BeginShutdown({.actor = "supervisor", .reason = why}, exit_code,
                              [](const std::vector<ActionOutcome>&) {});
              }},
      std::move(config));
  reloader_ = std::make_unique<Reloader>(
      loop_, config_reader_, *supervisor_, [this] { return LoadAgain(options_, paths_.applied_config); },
      [this](std::vector<ConfigText> now, std::function<void()> kept) {
        KeepAppliedConfig(std::move(now), std::move(kept));
      });
  reloader_->SetCheck([this](const Config& wanted, bool dry_run) { return own_files_->Reload(wanted, dry_run); });
  KeepAppliedConfig(std::move(texts), [] {});
  trial_ = std::make_unique<UpgradeTrial>(loop_, OwnProgram(), options_, paths_.applied_config);
  leave_timer_ = loop_.NewTimer([this] { MakeRoom(); });
  loop_.SetTurnEnd([this] {
    supervisor_->TurnEnded();
    files_.Wake();
  });
  if (absl::Status status = ServeControl(supervisor_->config()); !status.ok()) {
    return status;
  }
  WatchSignals();
  supervisor_->RecordOwnEvent("supervisor_started", fmt::format("supervisord {} started, pid {}", kVersion, getpid()),
                              OwnCause());
  descriptors_.Begin();
  ShareOutAmong(supervisor_->config(), descriptors_);
  FailPoint(FailPointId::kBootServed);
  if (absl::Status status = supervisor_->Boot([this](pid_t pid) { return reaped_->Find(pid); }); !status.ok()) {
    return status;
  }
  reaped_->Watch();
  stranger_reaper_ = std::make_unique<StrangerReaper>(loop_);
  watchdog_ = WatchForHang(options_.guardian_pid);
  after_boot_ = loop_.NewTimer([this] {
    taken_over_.clear();
    GiveBackMemory();
  });
  after_boot_->ArmAfter(kSettled);
  return absl::OkStatus();
}

void DaemonProcess::WatchSignals() {
  signals_ = std::make_unique<SignalReader>(loop_, [this](const signalfd_siginfo& info) { OnSignal(info); });
  if (options_.guardian_pid != 0) {
    guardian_fd_.Reset(static_cast<int>(syscall(SYS_pidfd_open, options_.guardian_pid, 0)));
    guardian_watch_ =
        loop_.WatchFd(guardian_fd_.get(), Loop::Interest::kRead, [this](Loop::Ready) { OnGuardianGone(); });
  }
  reaped_ = std::make_unique<ReapedExits>(
      loop_, files_, options_.reaped_read_fd,
      ReapedExits::Listener{.on_exit = [this](pid_t pid, WaitStatus status) { supervisor_->ReportExit(pid, status); },
                            .is_awaited = [this](pid_t pid) { return supervisor_->HasProcess(pid); }});
}

// Supervision goes on without it; but whoever wants to signal us now needs our pid.
void DaemonProcess::OnGuardianGone() {
  guardian_watch_.reset();
  guardian_gone_ = true;
  const absl::Status status = WriteFileAtomically(paths_.pid_file, fmt::format("{}\n", getpid()), 0644);
  LogError("the guardian was killed: should this daemon die too, nobody restarts it until supervisord is started again",
           {{"guardian", std::to_string(options_.guardian_pid)},
            {"pid_file", status.ok() ? "rewritten" : std::string(status.message())}});
}

void DaemonProcess::OnSignal(const signalfd_siginfo& info) {
  switch (info.ssi_signo) {
    case SIGHUP:
      reloader_->Reload(false, {.actor = "signal SIGHUP", .reason = {}}, [](const ReloadResult&) {});
      return;
    case SIGUSR1: {
      logs_->ReopenAll();
      const absl::Status status = ConfigureOwnLog(supervisor_->config().global, options_.started_fd < 0);
      LogInfo("log files reopened", {{"result", status.ok() ? "ok" : std::string(status.message())}});
      return;
    }
    case SIGUSR2:
      BeginUpgrade({.actor = "signal SIGUSR2", .reason = {}}, [](const absl::Status&) {});
      return;
    default:
      stops_.Take(info, guardian_gone_ ? 0 : options_.guardian_pid);
      return;
  }
}

void DaemonProcess::HurryShutdown() {
  if (ending_) {
    LogWarning("a second request to stop: what is left of the services is killed");
    supervisor_->HurryShutdown();
  }
}

void DaemonProcess::BeginShutdown(const Cause& cause, int exit_code, ActionsDone done) {
  if (std::exchange(ending_, true)) {
    supervisor_->Shutdown(cause, std::move(done));  // one more who waits for the same
    return;
  }
  exit_code_ = exit_code;
  trial_->Cancel();
  leave_timer_->Disarm();
  config_reader_.Post([last = std::make_shared<UniqueFd>(rpc_->PrepareShutdown())] { last->Reset(); });
  LogInfo("stopping all services; a second SIGTERM or Ctrl-C kills what is left of them",
          {{"actor", cause.actor}, {"reason", cause.reason}});
  supervisor_->Shutdown(cause, [this, cause, done = std::move(done)](std::vector<ActionOutcome> outcomes) {
    left_behind_ = LeftBehindBy(outcomes);
    std::string message = fmt::format("supervisord stopped, pid {}", getpid());
    if (!left_behind_.empty()) {
      exit_code_ = exit_code_ == 0 ? 1 : exit_code_;
      message += fmt::format("; not all is stopped: {}", fmt::join(left_behind_, "; "));
    }
    supervisor_->RecordOwnEvent("supervisor_stopped", message, cause);
    done(std::move(outcomes));
    notifier_->Drain(kLastNotifications, [this] { loop_.Post([this] { loop_.Stop(); }); });
  });
}

// For the next daemon of this guardian.
void DaemonProcess::KeepAppliedConfig(std::vector<ConfigText> texts, std::function<void()> kept) {
  if (const absl::Status status = ConfigureOwnLog(supervisor_->config().global, options_.started_fd < 0);
      !status.ok()) {
    LogError("the log goes on where it was", {{"error", std::string(status.message())}});
  }
  ShareOutAmong(supervisor_->config(), descriptors_);
  held_log_ = HoldOwnLog(supervisor_->config().global.log_file, held_log_, *held_);
  files_.Post([this, texts = std::move(texts), kept = std::move(kept)] {
    applied_config_.Write(texts);
    loop_.Post(kept);
  });
}

// The same path as a crash, taken on purpose: the guardian execs the new program, and its daemon adopts what runs.
// Without a guardian this process itself becomes the new program.
void DaemonProcess::BeginUpgrade(const Cause& cause, std::function<void(absl::Status)> done) {
  auto tried = [this, cause, done = std::move(done)](absl::Status status) {
    if (ending_) {
      status = absl::FailedPreconditionError("the daemon is stopping all services and will end");
    }
    if (!status.ok()) {
      LogError("not upgraded", {{"error", std::string(status.message())}, {"actor", cause.actor}});
      done(status);
      return;
    }
    FailPoint(FailPointId::kUpgradeTried);
    supervisor_->RecordOwnEvent(
        "supervisor_stopped",
        fmt::format("supervisord {}, pid {}, makes room for {}; its services go on", kVersion, getpid(), OwnProgram()),
        cause);
    done(absl::OkStatus());
    constexpr absl::Duration kAnswerIsThrough = absl::Milliseconds(5);
    leave_timer_->ArmAfter(kAnswerIsThrough);
  };
  if (ending_) {
    tried(absl::OkStatus());
  } else {
    trial_->Run(std::move(tried));
  }
}

// Everything that a new daemon needs is on disk once the queues are written. Nothing is taken down: no destructor may
// touch what the services use.
void DaemonProcess::MakeRoom() {
  watchdog_.reset();         // what follows waits for the disk, for as long as that takes
  supervisor_->TurnEnded();  // what was seen in this turn goes on record
  for (Instance* instance : supervisor_->instances()) {
    instance->WriteExactRecord();
  }
  files_.Finish();
  notifier_.reset();
  store_.reset();
  ShutdownDiagLog();
  FailPoint(FailPointId::kUpgradeLeaving);
  if (guardian_watch_ == nullptr) {
    BecomeNewProgram(options_, paths_.socket, descriptor_limit_);
  }
  _exit(kExitForUpgrade);
}

int DaemonProcess::Run() {
  loop_.Run();
  // The log pump and the files worker tidy up while the control interface closes. Calls are answered until it has.
  supervisor_->ForgetAll();
  files_.Post([file = paths_.applied_config, births = paths_.births] {
    unlink(file.c_str());
    unlink(births.c_str());
  });
  files_.Wake();
  rpc_->Shutdown([this] { loop_.Stop(); });
  loop_.Run();
  if (!rpc_->IsClosed()) {
    [[maybe_unused]] static RpcServer* const given_up = rpc_.release();
  }
  rpc_.reset();
  config_reader_.Finish();  // a reload may be under way
  reloader_.reset();
  trial_.reset();
  notifier_.reset();
  supervisor_.reset();
  checker_.reset();
  logs_.reset();
  files_.Finish();
  store_.reset();
  own_files_->End();
  RemoveDirectories();
  WriteLeftBehind(paths_, left_behind_);
  if (options_.guardian_pid != 0 && guardian_watch_ == nullptr) {
    unlink(paths_.pid_file.c_str());
    unlink(paths_.lock_file.c_str());
    ReleaseKeeper(options_.keeper_fd);
  }
  ShutdownDiagLog();
  return exit_code_ == 0 ? 0 : TellExitCode(options_, exit_code_, guardian_watch_ != nullptr);
}

// Those that are empty: what a running service needs stays.
void DaemonProcess::RemoveDirectories() {
  rmdir((paths_.state_directory + "/private").c_str());
  if (births_ != nullptr && births_->left().empty()) {
    unlink(paths_.births.c_str());
  }
  rmdir(paths_.state_directory.c_str());
}

// To whoever waits: the terminal that started us in the background, and the guardian.
void DaemonProcess::Announce(const absl::Status& status) {
  const std::string text = status.ok() ? "ok" : std::string(status.message());
  if (options_.started_fd >= 0) {
    // Nobody reads it any more when this is not the first daemon of its guardian.
    static_cast<void>(!write(options_.started_fd, text.data(), text.size()));
    close(options_.started_fd);
  } else if (!status.ok()) {
    PrintError(fmt::format("supervisord: {}\n", text));
  }
  const uint64_t one = 1;
  if (status.ok() && options_.ready_fd >= 0 && write(options_.ready_fd, &one, sizeof(one)) < 0) {
    LogWarning("the guardian can't be told that the daemon serves", {{"error", ErrnoText(errno)}});
  }
}

}  // namespace

int RunDaemonProcess(const DaemonOptions& options) {
  TidyProcess();
  std::vector<std::string> remarks;
  LoadedConfig loaded = LoadConfigInForce(options, remarks);
  if (!loaded.config) {
    PrintNotStarted(loaded.errors);
    return 2;
  }
  if (!options.socket.empty()) {
    // Where this supervisor lives is settled for its life; another socket waits for the next start.
    loaded.config->global.socket = options.socket;
  }
  const rlimit descriptor_limit = RaiseDescriptorLimit();
  ReserveDescriptors(*loaded.config);
  DaemonProcess process(options, descriptor_limit);
  const absl::Status status = process.Start(*std::move(loaded.config), std::move(loaded.texts));
  process.Announce(status);
  if (!options.guardian_note.empty()) {
    LogWarning("started again by the guardian", {{"why", options.guardian_note}});
  }
  for (const std::string& remark : remarks) {
    LogWarning(remark, {{"file", options.config_file}});
  }
  if (!status.ok()) {
    LogError("not started", {{"error", std::string(status.message())}});
    process.GiveUpFiles();
    process.RemoveDirectories();
    ShutdownDiagLog();
    return 1;
  }
  return process.Run();
}

}  // namespace supervisor
