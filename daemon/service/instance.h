#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/unique_fd.h"
#include "daemon/config/config.h"
#include "daemon/logs/log_pump.h"
#include "daemon/loop/helper_calls.h"
#include "daemon/loop/loop.h"
#include "daemon/loop/worker.h"
#include "daemon/process/birth_journal.h"
#include "daemon/process/boot_identity.h"
#include "daemon/process/cgroup.h"
#include "daemon/process/descriptor_budget.h"
#include "daemon/process/held_descriptors.h"
#include "daemon/process/process_tree.h"
#include "daemon/process/spawn.h"
#include "daemon/process/usage.h"
#include "daemon/service/capsule.h"
#include "daemon/service/environment.h"
#include "daemon/service/health_monitor.h"
#include "daemon/service/helper_command.h"
#include "daemon/service/last_lines.h"
#include "daemon/service/limit_keeper.h"
#include "daemon/service/machine.h"
#include "daemon/service/notify_budget.h"
#include "daemon/service/notify_socket.h"
#include "daemon/service/record.h"

namespace supervisor {

class Instance;

// What an instance tells of itself. All on the loop thread, while actions are performed, never from within a call of
// the receiver.
class InstanceObserver {
 public:
  virtual ~InstanceObserver() = default;
  // Something happened that the machine has to answer: queued, and stepped when the turn ends.
  virtual void Enqueue(Instance& instance, ServiceEvent event) = 0;
  virtual void OnRecord(Instance& instance, const RecordEvent& event) = 0;
  // An event that an earlier daemon had on record, and perhaps in the database too.
  virtual void OnUntold(Instance& instance, EventRow row) = 0;
  virtual void OnAttemptEnded(Instance& instance, const AttemptEnded& outcome) = 0;
  // What goes on of the run that ends now, though it was to end, in words; empty where nothing is known of it.
  virtual std::string WhatEndLeaves(const Instance& instance) = 0;
  virtual void OnHealthResult(Instance& instance, const CheckResult& result, Health verdict) = 0;
};

// What instances share. It outlives them.
struct InstanceContext {
  Loop& loop;
  Worker& files;         // small files, in order
  Worker& removals;      // of cgroups, which take the kernel a while
  HelperCalls& lookups;  // of users, groups and environment files
  LogPump& logs;
  Checker& checker;
  const CgroupRoot* cgroups;  // null: no cgroup v2 that we may use
  BirthJournal* births;       // null: none could be made
  HeldDescriptors* held;
  InstanceObserver& observer;
  // What is written from now on to a FIFO that nobody captures any more. Any thread. May be empty.
  std::function<void(UniqueFd fifo)> discard_output;
  std::string state_directory;
  std::string log_directory;
  std::string pid_directory;
  BootIdentity boot;
  Environment inherited_environment;
  rlimit descriptor_limit;
  DescriptorBudget& descriptors;
};

// The wait status of a process that the guardian has reaped since it last told a daemon.
using ReapedLookup = std::function<std::optional<WaitStatus>(pid_t)>;

// One instance of a service: its machine and all that the machine's actions need. Performs actions, turns what comes of
// them into events. Loop thread.
class Instance {
 public:
  // `config` is the instance's own: ForInstance was applied.
  Instance(const InstanceContext& context, std::string id, ServiceConfig config);
  ~Instance();
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;

  const std::string& id() const { return id_; }
  const ServiceConfig& config() const { return config_; }
  const MachineState& machine() const { return machine_; }
  const HealthMonitor& health() const { return health_; }
  pid_t pid() const { return child_ != nullptr ? child_->pid() : 0; }
  absl::Time started() const { return started_; }  // infinite past: no process
  // Whoever sets the clock changes nothing about it. Zero: no process.
  absl::Duration uptime() const;
  absl::Time last_restart() const { return last_restart_; }
  const Usage& usage() const { return usage_; }
  // It runs and its rates are not known yet, though soon they can be: they take two samples.
  bool AwaitsUsage() const { return HasProgram() && !usage_.cpu_percent && usage_samples_ < kMostFirstSamples; }
  // It has a process, and execve(2) is known to be over: before that, what /proc says of it is the daemon's own.
  bool HasProgram() const { return child_ != nullptr && execed_; }
  // Which way its resource limits are in force, running or not.
  const LimitWays& limit_ways() const { return limits_.ways(); }
  // Which run it is in; none: it has no process.
  std::optional<uint64_t> run() const { return child_ != nullptr ? std::optional(launches_) : std::nullopt; }
  // None: it was taken over, and not looked at since.
  std::optional<bool> exceeds_limit() const { return child_ != nullptr ? limits_.exceeded() : false; }
  const std::string& status_text() const { return status_text_; }
  // Notifications that were not heard, since it was started: see NotifyBudget.
  uint64_t dropped_notifications() const { return notify_budget_.dropped(); }
  // Another state than when last asked.
  bool TakeChanged();

  // One step of the machine: returns what is to be performed, after all events of the turn have been stepped.
  // `storm_allowance` is the restart budget that all instances share.
  std::vector<ServiceAction> StepEvent(const ServiceEvent& event, MonoTime now, MonoTime& storm_allowance);
  void Perform(const ServiceAction& action);
  // After the turn's actions: arms the timer, writes the record if it changed.
  void Settle();

  // The daemon is to end: no stop is extended any more.
  void BeginShutdown() { is_shutting_down_ = true; }

  // A configuration that needs no restart, or that the next start will use.
  void SetConfig(ServiceConfig config);

  // It has another id from now on: "w" is "w:0" once there are two. The process runs on, and keeps what bears the name
  // that it was started under (see process_name_) until its next start; log, record and pid file take the new one.
  void Rename(const std::string& id);
  // Of the environment file that its last process was started with, see environment_digest.h. 0: none, or not known.
  uint64_t environment_file_digest() const { return environment_file_digest_; }
  // Instances that a reload removes, and that it could conflict with: it starts when they are gone.
  const std::set<std::string>& starts_after() const { return starts_after_; }
  void StartAfter(std::set<std::string> removed) { starts_after_ = std::move(removed); }
  void NoLongerAfter(const std::string& removed) { starts_after_.erase(removed); }

  // Takes over what an earlier daemon left: the process in the record or in `births` (those of this instance, by
  // number), if it is still the same one, or its absence. To be called once, before any request. Kills what neither
  // accounts for. Fails where it cannot be told what is there (no more descriptors): nothing may be started then.
  absl::Status Adopt(const ReapedLookup& reaped, const std::vector<BirthJournal::Left>& births);
  // The end of a run, which stays on record until the database has it.
  // Returns the ticket of one that gives way to it; 0: none.
  uint64_t KeepUntilTold(EventRow row);
  void Told(uint64_t ticket);
  // Of the process whose end is being told.
  pid_t ended_pid() const { return ended_pid_; }
  const EndedRun& run_end() const { return run_end_; }  // of the last run
  const SecretMask& secrets() const { return secrets_; }
  // Since when its start waits for its user, its group or its environment file; kNoDeadline: it does not.
  MonoTime looking_up_since() const { return spawning_ ? looking_up_since_ : kNoDeadline; }
  // Since when its process is there and has not become its program; kNoDeadline: it has.
  MonoTime awaits_exec_since() const { return child_ != nullptr && !execed_ ? awaits_exec_since_ : kNoDeadline; }
  // The guardian has reaped the adopted process.
  void ReportExit(pid_t pid, WaitStatus status);
  bool stopped_by_request() const { return stopped_by_request_; }
  // An earlier daemon was to have it up, enabled or not.
  bool was_wanted() const { return was_wanted_; }

  // On behalf of a caller: an end that comes of it is told as his doing.
  absl::Status SendSignal(int signal, const Cause& cause);
  // What it uses is measured on another thread: of which tree, and with which sampler, nobody else's meanwhile. A new
  // process has a new sampler, so what comes of an earlier one is told apart.
  struct UsageRequest {
    std::shared_ptr<UsageSampler> sampler;
    ProcessTreeView tree;
  };
  UsageRequest RequestUsage() const { return {sampler_, tree_.view()}; }
  // What came of it: tells when that is over one of resource_limits, or what the kernel did for their sake. False: it
  // is of an earlier process.
  bool TakeUsage(const std::shared_ptr<UsageSampler>& sampler, const Usage& usage, MonoTime now);
  // Removes FIFOs and the record: it is gone from the configuration.
  void Forget();
  // Before its streams are closed: what kill_mode "process" has left to itself must not block when it writes. Returns
  // what is to be called when they are closed. Any thread may call that.
  std::function<void()> PrepareToDiscard() const;
  std::string RecordPath() const;
  // Where the next daemon follows at once: what changes with each check, and is else written along, is written now.
  void WriteExactRecord() { WriteRecord(true); }
  // The record is about to go, and must not come back.
  void WriteNoMore() { may_write_ = false; }
  // Somebody has removed what it had on disk for others to find: record, pid file, notify socket.
  void RestoreFiles();
  // Now and then: takes from the record what the database has by now.
  void TidyRecord();

  std::string log_path() const;
  std::string stderr_log_path() const;
  // What it writes to: standard output (and error), and standard error where that is apart.
  LastLinesOf WhoseLastLines() const;
  std::vector<std::string> streams() const;
  std::string stdout_stream() const { return id_; }
  std::string stderr_stream() const { return id_ + ".err"; }
  // What the processes of it are known by.
  ProcessTreeView tree_view() const { return tree_.view(); }

 private:
  static constexpr absl::Duration kShortestSweep = absl::Milliseconds(2);  // of what a process has left behind

  void operator()(const RunHook& action);
  void operator()(const CancelHook& action);
  void operator()(const SpawnProcess& action);
  void operator()(const TerminateTree& action);
  void operator()(const RunStopCommand& action);
  void operator()(const KillTree& action);
  void operator()(const RecordEvent& action);
  void operator()(const AttemptEnded& action);
  friend struct ActionPerformer;

  void Enqueue(ServiceEvent event) { context_.observer.Enqueue(*this, std::move(event)); }
  MachineConfig MachineConfigNow() const;
  void OnTimer();

  // Starting: identity, then log streams, then the clone. Each may come back late; `spawn_` tells whose it is.
  void TakeOwnName();
  void WithIdentity(std::function<void(absl::StatusOr<ServiceIdentity>)> next);
  void TakeIdentity(ServiceIdentity identity);
  void UpdateLogs();
  void OpenLogs(uint64_t spawn, bool is_stderr);
  LogStreamOptions StreamOptions(bool is_stderr) const;
  std::string FifoPath(bool is_stderr) const;
  void Launch(uint64_t spawn);
  SpawnRequest BaseRequest(const CommandConfig& run) const;
  void AddLimits(SpawnRequest& request) const;
  absl::StatusOr<absl::Duration> WatchdogOf(const Environment& environment) const;
  bool WantsNotifications(absl::Duration watchdog) const;
  absl::Status OpenNotifySocket();  // owned by the user of the service
  absl::Status ResumeNotifySocket();
  std::string NotifyPath() const;
  void ReopenOutput();
  void OpenStreams();
  void FindNamelessFifo(const std::string& path) const;
  void FailStart(const std::string& why);
  void GiveUpDescriptors();
  ChildProcess::Observer ObserveChild();
  void OnStarted(const std::optional<SpawnFailure>& failure);
  void OnExit(uint64_t child, WaitStatus status);
  void FinishExit(WaitStatus status);
  void OnNotification(const Notification& notification);
  void Hear(const Notification& notification);
  bool MayNotify(const Notification& notification);
  bool HasBudgetFor(const Notification& notification);
  uid_t OwnUid() const;
  void ChangeMainProcess(pid_t pid);
  void BeginHealth(bool awaits_readiness, const std::optional<VerdictState>& verdict = std::nullopt);
  std::shared_ptr<const RunAs> RunAsOf(const std::optional<SpawnRequest::Credentials>& credentials) const;
  void LookUpRunAs();
  void LookUpScriptEnvironment();

  std::unique_ptr<Cgroup> MakeCgroup(const std::string& name) const;
  void EnterCgroup();
  void LeaveCgroup();
  void KillLeftHooks(const std::vector<BirthJournal::Left>& births) const;
  absl::StatusOr<InstanceRecord> ReadRecord();
  void FollowBirths(const ReapedLookup& reaped, const std::vector<BirthJournal::Left>& births, InstanceRecord& record);
  void TellEnd(pid_t pid, const ReapedLookup& reaped);
  void Resume(const InstanceRecord& record, std::unique_ptr<ChildProcess> child);
  void GoOnAfter(const InstanceRecord& record, const WaitStatus& status);
  void Rest(const InstanceRecord& record);
  Adopted AdoptedOf(const InstanceRecord& record) const;
  std::shared_ptr<BirthJournal::Birth> BeginBirth(const std::string& name, const RunMark& mark,
                                                  SpawnRequest& request) const;
  CgroupControllers OfferedControllers() const {
    return context_.cgroups != nullptr ? context_.cgroups->controllers() : CgroupControllers{};
  }
  void ApplyLimits();
  std::string WhyItEnded(const WaitStatus& status);
  void Tell(const std::vector<LimitKeeper::Finding>& findings);
  void StartHook(HookKind kind);
  void StartStopCommand(absl::Duration limit);
  void AskToGo();
  void AskMainProcess(int signal);
  void AskTree(int signal);
  void TellWhatIsLeft(const std::vector<std::string>& refused);
  void CheckTreeEmpty();
  void WritePidFile();
  void RemovePidFile();
  void WriteRecord(bool exactly = false);
  int64_t BackoffUntil();

  const InstanceContext& context_;
  std::string id_;
  // The id under which its present process, or the last, was started. Its environment, its cgroup, its FIFO and its
  // notify socket bear that name, and cannot take another.
  std::string process_name_;
  ServiceConfig config_;
  MachineState machine_;
  HealthMonitor health_;
  ProcessTree tree_;
  std::unique_ptr<Loop::Timer> timer_;
  std::unique_ptr<Loop::Timer> sweep_timer_;  // while what the main process left behind goes
  absl::Duration sweep_delay_;
  std::unique_ptr<ChildProcess> child_;
  uint64_t child_number_ = 0;  // of child_, among all that this instance has had
  // Those that were the main process until the service named another (MAINPID=): still to be reaped, by number.
  std::map<uint64_t, std::unique_ptr<ChildProcess>> former_;
  std::unique_ptr<HelperCommand> hook_;
  std::unique_ptr<HelperCommand> post_start_hook_;
  struct Signalled {
    int signal;
    Cause cause;
  };
  std::optional<Signalled> signalled_;  // the last one that a caller sent to this process
  struct WaitingHook {
    uint64_t number;
    HookKind kind;
  };
  std::optional<WaitingHook> hook_waits_;  // to become hook_, for its identity
  uint64_t hooks_ = 0;
  std::unique_ptr<HelperCommand> stop_command_;
  bool tree_asked_ = false;  // in this stop: all were sent the signal along with the main process
  std::unique_ptr<NotifySocket> notify_;
  std::unique_ptr<NotifySocket> former_notify_;  // whose name was removed, and to which it may be connected
  std::vector<Notification> early_;              // came before the report that execve(2) has succeeded
  absl::Duration watchdog_;                      // WATCHDOG_USEC of the environment that it is started with
  NotifyBudget notify_budget_;
  std::map<pid_t, uint64_t> speakers_;  // that were found to be of the tree, with their start times
  bool strangers_told_ = false;         // of this socket: that somebody else spoke
  bool execed_ = false;                 // child_ has made it through execve(2)
  // A cgroup that a worker is to remove, unless it is taken back before: whoever has it owns what becomes of
  // it.
  struct LeavingCgroup {
    std::mutex mutex;
    std::unique_ptr<Cgroup> cgroup;
  };
  std::shared_ptr<LeavingCgroup> leaving_;
  std::optional<ServiceIdentity> identity_;
  WantedAccess log_access_;  // what config_.logs says, as far as it has been looked up
  uint64_t environment_file_digest_ = 0;
  std::set<std::string> starts_after_;
  SecretMask secrets_;
  UniqueFd stdout_fd_;  // for the process that is being started
  UniqueFd stderr_fd_;
  bool has_former_fifo_ = false;  // see FifoPath
  bool is_captured_ = false;      // its standard output is open in the log pump
  bool captures_stderr_ = false;  // and its standard error apart
  DescriptorBudget::Claim descriptors_;
  std::optional<std::string> exec_failure_;  // told when the child is reaped
  std::shared_ptr<UsageSampler> sampler_ = std::make_shared<UsageSampler>();
  static constexpr int kMostFirstSamples = 3;  // one of them may follow another too closely
  Usage usage_;
  int usage_samples_ = 0;  // of this run by this daemon
  bool may_write_ = true;
  EndedRun run_end_;
  LimitKeeper limits_;
  std::string status_text_;
  absl::Time started_ = absl::InfinitePast();
  absl::Duration started_boot_;  // the same moment since boot
  absl::Time last_restart_ = absl::InfinitePast();
  bool changed_ = true;
  bool stopped_by_request_ = false;
  bool is_shutting_down_ = false;
  bool was_wanted_ = false;
  bool spawning_ = false;  // asked to spawn, no child yet
  MonoTime looking_up_since_ = kNoDeadline;
  MonoTime awaits_exec_since_ = kNoDeadline;
  uint64_t spawn_ = 0;
  InstanceRecord written_;                      // what the record file says
  std::shared_ptr<bool> alive_;                 // outlives this for answers from other threads
  uint64_t launches_ = 0;                       // clones tried, over all daemons
  std::shared_ptr<BirthJournal::Birth> birth_;  // of child_, until it has exec'd
  // The files' thread alone.
  struct OnDisk {
    bool is_current = true;                                    // the record could be written
    std::vector<std::shared_ptr<BirthJournal::Birth>> births;  // which it would have to tell of
  };
  std::shared_ptr<OnDisk> on_disk_;
  std::vector<std::function<void()>> reapings_;  // of those whose end goes on record this turn
  std::vector<EventRow> untold_;
  pid_t ended_pid_ = 0;
  struct BackoffEnd {
    MonoTime deadline;
    int64_t since_boot_ms = 0;
  };
  BackoffEnd backoff_end_;  // the same moment on both clocks, looked up once
};

}  // namespace supervisor
