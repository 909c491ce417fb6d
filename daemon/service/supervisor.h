#pragma once

#include <sys/resource.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/instance_order.h"
#include "daemon/config/config.h"
#include "daemon/config/diff.h"
#include "daemon/config/load.h"
#include "daemon/process/strays.h"
#include "daemon/service/alert_keeper.h"
#include "daemon/service/environment_digest.h"
#include "daemon/service/instance.h"
#include "daemon/service/last_lines.h"
#include "daemon/service/operations.h"
#include "daemon/service/order.h"
#include "daemon/service/target_watch.h"
#include "daemon/store/store.h"

namespace supervisor {

enum class SystemHealth { kHealthy, kDegraded, kCritical };

struct ActionOptions {
  Cause cause;
  bool no_wait = false;
  bool with_dependents = false;  // restart: what runs and depends on the targets, too
  absl::Duration timeout;        // zero: as long as the services' own timeouts allow
};

// Owns every instance and decides for all of them together: order, operations, reload, shutdown. All supervision state
// is here, on the loop thread; other threads post to the loop.
//
// A turn: handlers enqueue events; when the turn ends the events are stepped, then the actions performed, until
// neither is left; then the start and stop order is asked who may go on, until nobody may.
class Supervisor final : private InstanceObserver {
 public:
  struct Options {
    std::string state_directory;
    std::string socket;  // of the control interface, absolute: services find it as SUPERVISOR_SOCKET
    const CgroupRoot* cgroups = nullptr;
    BirthJournal* births = nullptr;
    HeldDescriptors* held = nullptr;
    std::function<void(UniqueFd fifo)> discard_output;  // see InstanceContext
    rlimit descriptor_limit{};                          // what services get where they name no max_open_files
    DescriptorBudget* descriptors = nullptr;            // REQUIRED
    // Alerts that are raised and resolved, and where they may be told from now on. May be null.
    std::function<void(const Alert&, const std::vector<std::string>& labels)> notify;
    std::function<void(const NotificationsConfig&)> configure_notifications;
    // A critical service has failed and the configuration wants the daemon to end.
    // `exit_code`: of its last process, 1 where that has none that tells a failure.
    std::function<void(const std::string& why, int exit_code)> on_critical_failure;
  };
  Supervisor(Loop& loop, Worker& files, LogPump& logs, Checker& checker, Store& store, Options options, Config config);
  ~Supervisor() override;
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // Adopts what runs, then starts what is enabled. Once. Fails where it cannot be told what runs.
  absl::Status Boot(const ReapedLookup& reaped);
  // Events that are in the database for good, by EventRow::ticket.
  void Told(const std::vector<uint64_t>& tickets);
  // To be called when a turn of the loop ends.
  void TurnEnded();

  // NotFound (with near misses) where a target names nothing.
  absl::StatusOr<std::vector<Instance*>> Resolve(const std::vector<std::string>& targets) const;

  // The status tells at once whether the targets were understood; `done` is called, later, only where it is OK.
  absl::Status Start(const std::vector<std::string>& targets, const ActionOptions& options, ActionsDone done);
  absl::Status Stop(const std::vector<std::string>& targets, const ActionOptions& options, ActionsDone done);
  absl::Status Restart(const std::vector<std::string>& targets, const ActionOptions& options, ActionsDone done);
  absl::Status Signal(const std::vector<std::string>& targets, int signal, const Cause& cause, ActionsDone done);

  // Stops everything in reverse order for good; further requests are refused. `done` when nothing is left.
  void Shutdown(const Cause& cause, ActionsDone done);
  // During a shutdown: nothing has graceful time left.
  void HurryShutdown();
  // After a shutdown: nothing of the services stays behind, no FIFO and no record.
  void ForgetAll();
  bool shutting_down() const { return shutting_down_; }
  // FailedPrecondition while it does.
  absl::Status RefuseWhileStopping() const;

  // What is left of a run that has ended, in words; empty: nothing that is known.
  std::string WhatGoesOnOf(const Instance& instance) const;

  // Applies a configuration that was loaded without errors. `files`: what its environment files hold now.
  ReloadPlan Plan(const Config& wanted, const EnvironmentDigests& files) const;
  ReloadPlan Reload(Config wanted, const EnvironmentDigests& files, const Cause& cause);

  void ReportExit(pid_t pid, WaitStatus status);
  // Some instance still waits for the end of that process to be told.
  bool HasProcess(pid_t pid) const;
  // An event of the daemon itself.
  void RecordOwnEvent(const std::string& type, const std::string& message, const Cause& cause);
  // An event of the service whose output this stream (log_pump.h) is; none where it is gone.
  void RecordLogEvent(const std::string& stream, const std::string& type, const std::string& message);

  // For answers: who has read one may rely on the pid files, the records and the database saying so too. `then` runs
  // when what was decided before is in them; a database that takes longer than a second is not waited for.
  void WhenRecorded(std::function<void()> then);

  // Any thread. What Store::QueryEvents answers, and nothing is missing of what had been decided before: rows reach the
  // store by way of the files' thread.
  void QueryEvents(Store::EventQuery query, std::function<void(absl::StatusOr<std::vector<EventRow>>)> done);

  // Any thread: all services that the database has, those that were removed among them.
  void QueryServices(std::function<void(absl::StatusOr<std::vector<ServiceRow>>)> done);

  const Config& config() const { return config_; }
  AlertKeeper& alerts() { return alerts_; }
  TargetWatch& target_watch() { return target_watch_; }
  LastLinesReader& last_lines() { return *last_lines_; }
  std::vector<Instance*> instances() const;  // by priority, then id
  Instance* Find(std::string_view id) const;
  SystemHealth system_health() const;
  // While it stops all: how far that has come, for people. Else empty.
  std::string ShutdownProgress() const;
  // Why an instance that waits for its turn to start has not got it: "waits until db, which is starting, is ready
  // (depends_on)". Empty: it does not wait.
  std::string WaitsForWhat(const Instance& instance) const;

 private:
  void Enqueue(Instance& instance, ServiceEvent event) override;
  void OnRecord(Instance& instance, const RecordEvent& event) override;
  std::string WhatEndLeaves(const Instance& instance) override;
  void OnUntold(Instance& instance, EventRow row) override;
  void OnAttemptEnded(Instance& instance, const AttemptEnded& outcome) override;
  void OnHealthResult(Instance& instance, const CheckResult& result, Health verdict) override;

  // Instances that go down together, in order: for good, or to be started again.
  struct StopJob {
    std::vector<std::string> members;
    // The services as they were configured before a reload, whose order holds; null: as they are now.
    std::shared_ptr<const std::map<std::string, ServiceConfig>> before;
  };

  std::set<std::string> StaleInstances(const Config& wanted, const EnvironmentDigests& files) const;
  std::string PresentName(const std::string& id) const;
  void RenameInstances(const Cause& cause);
  void OrderAfterRemoved(const std::vector<Instance*>& coming);
  void RemoveUnconfigured(StopJob& job, const Cause& cause);
  void StartEnabled(const ServiceConfig& service, const std::set<std::string>& returning, const Cause& cause);
  std::set<std::string> TakeUpNames(std::set<std::string> recorded) const;
  void TakeUpLogs(const std::string& id, const std::set<std::string>& names) const;
  void AddInstances(const ServiceConfig& service);
  void AddOrphan(const std::string& id);
  absl::Status AdoptAll(const ReapedLookup& reaped);
  void AddRow(Instance& instance, EventRow row, bool ends_run);
  void HandRowsOn();
  bool DrainEvents();
  bool AskOrder();
  bool PruneStopJobs();
  bool AdvanceStopJobs(const std::vector<OrderView>& views);
  static std::vector<std::string> DecideReloadStops(std::vector<OrderView> views, const StopJob& job);
  void EraseRemoved();
  void PublishChanges();
  std::vector<OrderView> Views() const;
  void SampleUsage();
  void AwaitFirstUsage();
  void SampleFirstUsage();
  void Measure(bool (*wanted)(const Instance&));
  struct Sample {
    std::string id;
    std::shared_ptr<UsageSampler> sampler;
    ProcessTreeView tree;
    Usage usage;
  };
  // How the last run ended, where it was not as it should be.
  static const EndedRun* AbnormalEnd(const Instance& instance, const RecordEvent& event);
  void KeepLastLines();
  void TakeSamples(std::shared_ptr<std::vector<Sample>> samples, size_t from);
  void WaitForUp(std::vector<Operations::Item> items, const ActionOptions& options, ActionsDone done);
  absl::StatusOr<std::vector<Instance*>> ResolveStaying(const std::vector<std::string>& targets) const;
  absl::StatusOr<std::vector<Instance*>> ResolveAmong(const std::vector<std::string>& targets,
                                                      const std::vector<Instance*>& all) const;
  static std::vector<Operations::Item> LeaveStopped(const std::vector<std::string>& targets,
                                                    std::vector<Instance*>& instances);
  void SayWhoIsWaitedFor(std::vector<ActionOutcome>& outcomes) const;
  // The runs of these services, as far as a stop or a restart is to leave nothing of them: secret and service.
  static std::map<std::string, std::string> RunsOf(const std::vector<const Instance*>& instances);
  std::vector<Stray> WhatGoesOn(std::map<std::string, std::string> runs) const;
  // An answer to a stop or restart that names what went on of `runs`.
  ActionsDone SayingWhatGoesOn(std::map<std::string, std::string> runs, ActionsDone done) const;
  std::optional<ActionOutcome> DownOutcome(const std::string& id) const;
  std::vector<Instance*> WithDependencies(const std::vector<Instance*>& named) const;
  std::vector<Instance*> WithDependents(const std::vector<Instance*>& named) const;
  ServiceRow RowOf(const Instance& instance) const;
  std::vector<AlertSubject> AlertSubjects() const;
  // When what was written to these streams before is in their files, or that takes too long: on the log pump's thread.
  void AfterOutput(const std::vector<std::string>& streams, const std::function<void()>& then);
  ActionsDone AfterRecords(ActionsDone done);

  Loop& loop_;
  Worker& files_;
  Store& store_;
  Options options_;
  Config config_;
  Worker removals_;
  HelperCalls lookups_;
  InstanceContext context_;
  std::map<std::string, std::unique_ptr<Instance>, InstanceIdLess> instances_;  // by instance id
  std::set<std::string> removed_;                                               // to be erased when they have stopped
  TargetWatch target_watch_;
  Operations operations_;
  AlertKeeper alerts_;
  std::vector<StopJob> stop_jobs_;
  struct Queued {
    std::string id;
    ServiceEvent event;
  };
  std::optional<std::vector<Stray>> left_by_ends_;  // what WhatEndLeaves has found in this batch of actions
  std::deque<Queued> events_;
  // For the store, by way of the files' thread: the record of a run's end is on disk before its event can be.
  std::vector<EventRow> rows_;
  std::map<uint64_t, std::string> tickets_;  // whose event
  uint64_t last_ticket_ = 0;
  std::unique_ptr<Loop::Timer> usage_timer_;
  std::unique_ptr<Loop::Timer> first_usage_timer_;
  MonoTime storm_allowance_;    // of the restarts of all: see restart_policy.h
  bool order_changed_ = false;  // the start and stop order has to be asked
  bool unsettled_ = false;      // operations and the database have to be told
  bool shutting_down_ = false;
  bool critical_reported_ = false;
  bool sampling_ = false;  // a round is under way
  bool awaits_first_usage_ = false;
  // Events of this turn that want the last lines of their service's log.
  struct WantsLines {
    EventAmendment event;
    std::vector<std::string> streams;
    LastLinesOf of;
  };
  std::vector<WantsLines> want_lines_;
  // Also with the log pump, for answers that come late.
  std::shared_ptr<LastLinesReader> last_lines_ = std::make_shared<LastLinesReader>();
  HelperCalls measuring_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for who calls back
};

}  // namespace supervisor
